"""The bias of a quantised layer."""

from __future__ import annotations

from torch import Tensor

from jackfield_platforms.linear import LinearSpec


def stored_bias(bias: Tensor | None, layer: LinearSpec) -> Tensor | None:
    """The layer's bias. Some checkpoints store zeros for layers that have none; ValueError where they are others."""
    if layer.bias or bias is None:
        return bias
    if bias.any():
        raise ValueError(f"{layer.name}: the checkpoint holds a bias that is not zero; by its config there is none")
    return None
