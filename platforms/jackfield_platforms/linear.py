"""Weights as a format stores them, and as a device wants them: the two meet at `Encoded`.

A quantisation method (`QuantMethod`) knows a checkpoint's tensors and turns them into an `Encoded` weight. A device's
`LinearOp` packs an `Encoded` weight into its own form and multiplies by it. M formats and N devices need M + N classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities

Packed = Any  # whatever the op's `pack` returned


class LinearSpec(msgspec.Struct, frozen=True):
    """A linear layer: `in_size` to the sum of `out_sizes` (several when projections are fused: q, k, v)."""

    name: str
    in_size: int
    out_sizes: tuple[int, ...]
    dtype: str  # of the activations
    bias: bool = False
    shard: Literal["none", "column", "row"] = "none"
    gathers: bool = False  # whether `LinearOp.rows` is called too: a tied embedding

    @property
    def out_size(self) -> int:
        """Rows of the weight."""
        return sum(self.out_sizes)


class ParamSpec(msgspec.Struct, frozen=True):
    """A tensor that the loader should expect for a layer: shape and torch dtype name."""

    shape: tuple[int, ...]
    dtype: str
    out_dim: int | None = 0  # the dimension that `out_sizes` cut; None: not cut


class Encoding(msgspec.Struct, frozen=True):
    """How the numbers of a weight are written. `float` with `bits` 16 or 32 is a plain weight."""

    kind: Literal["float", "int"]
    bits: int
    group: int | None = None  # input elements that share a scale; None: a whole row


class Encoded(msgspec.Struct):
    """A weight in canonical form. `data` is `[out, in]` for plain floats."""

    encoding: Encoding
    data: Tensor
    bias: Tensor | None = None  # [out]


class QuantMethod(ABC):
    """A weight format. Immutable; one object serves many layers."""

    # required
    name: ClassVar[str]

    @abstractmethod
    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        """Why this format cannot serve the layer on a platform with `caps`, or None."""

    @abstractmethod
    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        """Tensors that a checkpoint holds for the layer, by their name after the layer's own."""

    @abstractmethod
    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        """Turn the loaded tensors into canonical form; consumes `params`."""

    # optional
    def encoding(self, layer: LinearSpec) -> Encoding:
        """How the layer's weight will be written, told before it is there.

        The default encodes tensors without storage; a format whose `encode` looks at values says it here.
        """
        params = {
            name: torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device="meta")
            for name, spec in self.params(layer).items()
        }
        return self.encode(params, layer).encoding


class LinearOp(Protocol):
    """One way of multiplying by a packed weight."""

    name: str

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        """Why this op cannot serve, or None."""

    def pack(self, encoded: Encoded) -> Packed:
        """The weight in the device's form; consumes its input."""

    def apply(self, x: Tensor, packed: Packed) -> Tensor:
        """`[tokens, in]` to `[tokens, out]`, in x's dtype."""

    def rows(self, packed: Packed, ids: Tensor) -> Tensor:
        """Rows of the weight, `[len(ids), in]`: the embedding out of a tied head."""


class TorchLinear:
    """The reference: a plain float weight and `F.linear`."""

    name = "torch"

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        return None if encoding.kind == "float" else f"plain torch multiplies float weights only, not {encoding.kind}"

    def pack(self, encoded: Encoded) -> Packed:
        return encoded

    def apply(self, x: Tensor, packed: Encoded) -> Tensor:
        return F.linear(x, packed.data, packed.bias)

    def rows(self, packed: Encoded, ids: Tensor) -> Tensor:
        return F.embedding(ids, packed.data)


def torch_dtype(name: str) -> torch.dtype:
    """`torch.<name>`; ValueError names what was given when it is no dtype."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name!r} is no torch dtype")
    return dtype
