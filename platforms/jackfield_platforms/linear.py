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
    """A linear layer: `in_size` to the sum of `out_sizes` (several when projections are fused: q, k, v).

    Where a model is split among ranks, these are the sizes of one rank's part; `shard` says along which side.
    """

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
    """A tensor that the loader should expect for a layer: shape and torch dtype name.

    A float of 16 bits or more is converted from any such float; every other dtype must be stored as it is.
    """

    shape: tuple[int, ...]
    dtype: str
    out_dim: int | None = 0  # the dimension that the parts of a fused layer cut; None: all parts hold the same
    out_sizes: tuple[int, ...] | None = None  # the parts along it, where they are not `LinearSpec.out_sizes`
    optional: bool = False  # a checkpoint may do without
    whole: bool = True  # a checkpoint may hold the parts of a fused layer as one tensor


class Encoding(msgspec.Struct, frozen=True):
    """How the numbers of a weight are written. A float without a scale is a plain weight."""

    kind: Literal["float", "int"]
    bits: int  # float: 32, 16, or 8 (e4m3); int: 8 or 4
    group: int | None = None  # input elements that share a scale; None: a whole row
    group_out: int = 1  # rows that share a scale
    scale: str | None = None  # dtype of the scales; None: there are none
    zero: bool = False  # whether the ints have a zero point of their own in each group
    ordered: bool = False  # whether the inputs are permuted, so that those of a group lie side by side

    @property
    def is_plain(self) -> bool:
        """Whether the numbers stand for themselves."""
        return self.kind == "float" and self.scale is None

    def describe(self) -> str:
        """For people: `4-bit int in groups of 128 with zero points`."""
        if self.is_plain:
            return f"{self.bits}-bit float"
        size = "rows" if self.group is None else f"groups of {self.group}"
        grouped = size if self.group_out == 1 else f"blocks of {self.group_out} x {self.group or 'a row'}"
        zero, order = " with zero points" if self.zero else "", ", inputs reordered" if self.ordered else ""
        return f"{self.bits}-bit {self.kind} in {grouped}{zero}{order}"


class Encoded(msgspec.Struct):
    """A weight in canonical form. The number at (row, column) is `(data - zero) * scale`.

    8-bit floats are float8_e4m3fn. 8-bit ints are int8 without a zero point, uint8 with one. 4-bit ints are unsigned,
    two a byte, the even column in the low half (`jackfield_platforms.nibbles`); without a zero point of their own their
    zero is 8. The last block of a row or column of blocks may be smaller than the others.
    """

    encoding: Encoding
    data: Tensor  # [out, in], of 4-bit ints uint8 [out, in / 2]
    bias: Tensor | None = None  # [out]
    scale: Tensor | None = None  # [ceil(out / group_out), ceil(in / group)]; [.., 1] where the group is a row
    zero: Tensor | None = None  # int16, the shape of `scale`; 0 to 2 ** bits
    order: Tensor | None = None  # int64 [in]: column j multiplies input order[j]
    dtype: str = "float32"  # of the activations: that of gathered rows, where the data is not plain
    layer: str = ""  # the layer's name, for ops that keep or look up something of each


class QuantMethod(ABC):
    """A weight format. Immutable; one object serves many layers."""

    # required
    name: ClassVar[str]  # a checkpoint's `quant_method`, or what the option `quantization` calls it

    @abstractmethod
    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        """Why this format cannot serve the layer on a platform with `caps`, or None."""

    @abstractmethod
    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        """Tensors that a checkpoint holds for the layer, by their name after the layer's own."""

    @abstractmethod
    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        """Turn the loaded tensors into canonical form; consumes `params`. ValueError names the layer and the fault."""

    # optional
    on_line: ClassVar[bool] = False  # whether it encodes plain weights while they are loaded
    shards: ClassVar[bool] = False
    """Whether a rank's part of a layer is made of slices of the whole layer's tensors: outputs along `out_dim` of a
    parameter, inputs along the other dimension, each counted as `LinearSpec` counts them.
    """

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QuantMethod:
        """The format as a checkpoint's `quantization_config` sets it; ValueError names a field that cannot be."""
        return cls()

    def covers(self, name: str) -> bool:
        """Whether the layer of that name in a checkpoint is in this format; the others are plain."""
        return True

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
        return None if encoding.is_plain else f"plain torch multiplies plain floats only, not {encoding.describe()}"

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
