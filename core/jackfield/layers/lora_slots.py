"""LoRA adapters of one linear layer, in slots (Hu et al., 2021; many in one batch as in S-LoRA, Sheng et al., 2023).

A slot is written in place, so that captured programs, which read addresses, see an adapter that was loaded after them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield.config.json_fields import ConfigError
from jackfield.layers.decoder import DecoderLayer
from jackfield.layers.linear import Linear
from jackfield.models.interface import Build, Model
from jackfield_platforms.linear import LinearSpec


class LoraSlots:
    """`a` and `b` of every slot, zero until they are written; smaller ranks are padded with zeros.

    A layer of several parts (q, k, v in one product) has an `a` for each part; `b` is cut along `out` as the layer is.
    """

    def __init__(self, build: Build, layer: LinearSpec) -> None:
        assert build.lora is not None, "the engine serves LoRA"
        slots, rank, parts = build.lora.max_loras, build.lora.max_rank, len(layer.out_sizes)
        self.a = torch.zeros(slots, parts, rank, layer.in_size, dtype=build.dtype, device=build.device)
        self.b = torch.zeros(slots, rank, layer.out_size, dtype=build.dtype, device=build.device)
        self.out_sizes, self._add = layer.out_sizes, build.ops.lora_add

    def add(self, out: Tensor, x: Tensor, adapters: Tensor) -> Tensor:
        """`out` `[tokens, out]`, and what each token's adapter adds for `x` `[tokens, in]`; adapters `[tokens]`."""
        return self._add(out, x, self.a, self.b, adapters, self.out_sizes)

    def clear(self, slot: int) -> None:
        """The adapter in `slot` adds nothing."""
        self.a[slot].zero_()
        self.b[slot].zero_()

    def write(self, slot: int, part: int, a: Tensor, b: Tensor) -> None:
        """Put one part's `a` `[rank, in]` and `b` `[rank, part's out]` into a cleared slot."""
        first = sum(self.out_sizes[:part])
        self.a[slot, part, : len(a)].copy_(a)
        self.b[slot, : len(b), first : first + self.out_sizes[part]].copy_(b)


def add_slots(model: Model) -> None:
    """Give every linear layer of the decoder its slots; ConfigError where several ranks share the layers."""
    if model.build.comm.size > 1:
        raise ConfigError(f"LoRA adapters are served by one rank alone; found {model.build.comm.size}")
    for linear in adapted(model):
        linear.lora = LoraSlots(model.build, linear.spec)


def adapted(model: Model) -> list[Linear]:
    """The linear layers that adapters may change: those of decoder layers."""
    return [
        module
        for layer in model.modules()
        if isinstance(layer, DecoderLayer)
        for module in layer.modules()
        if isinstance(module, Linear)
    ]
