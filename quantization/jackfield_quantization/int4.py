"""Plain weights that become 4-bit integers while they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod
from jackfield_platforms.nibbles import pack_nibbles
from jackfield_quantization.int8 import WholeInt8
from jackfield_quantization.layer_names import is_vocabulary
from jackfield_quantization.panels import in_panels
from jackfield_quantization.sizes import group_refusal
from jackfield_quantization.unquantized import Unquantized

_MIDDLE, _LARGEST = 8, 15


@dataclass(frozen=True)
class Int4(QuantMethod):
    """Symmetric 4-bit ints, a float16 scale for each 32 inputs, as in llama.cpp's Q4_0. The vocabulary stays plain.

    The number of a group that is farthest from zero becomes -8, whatever its sign: so all sixteen are used.
    """

    name: ClassVar[str] = "int4"
    on_line: ClassVar[bool] = True
    shards: ClassVar[bool] = True
    group: ClassVar[int] = 32

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        return group_refusal(layer, self.group) or Unquantized().rejects(layer, caps)

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        return Unquantized().params(layer)

    def encoding(self, layer: LinearSpec) -> Encoding:
        return Encoding("int", 4, group=self.group, scale="float16")

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        weight = params.pop("weight")
        data = torch.empty(layer.out_size, layer.in_size // 2, dtype=torch.uint8, device=weight.device)
        shape = (layer.out_size, layer.in_size // self.group)
        scale = torch.empty(shape, dtype=torch.float16, device=weight.device)
        in_panels(_encode, weight, data, scale)
        if not scale.isfinite().all():
            raise ValueError(f"{layer.name}: weights that float16 cannot scale to 4 bits cannot be written as int4")
        return Encoded(self.encoding(layer), data, params.pop("bias", None), scale, dtype=layer.dtype)

    def covers(self, name: str) -> bool:
        return not is_vocabulary(name)


@dataclass(frozen=True)
class WholeInt4(Int4):
    """The same, with the head and a tied embedding as int8 rows."""

    name: ClassVar[str] = "int4-all"

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        return WholeInt8().rejects(layer, caps) if is_vocabulary(layer.name) else super().rejects(layer, caps)

    def encoding(self, layer: LinearSpec) -> Encoding:
        return WholeInt8().encoding(layer) if is_vocabulary(layer.name) else super().encoding(layer)

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        return WholeInt8().encode(params, layer) if is_vocabulary(layer.name) else super().encode(params, layer)

    def covers(self, name: str) -> bool:
        return True


def _encode(weight: Tensor, data: Tensor, scale: Tensor) -> None:
    """Fill data `[rows, in / 2]` and scale `[rows, groups]`."""
    grouped = weight.float().unflatten(1, (scale.shape[1], -1))
    farthest = grouped.gather(-1, grouped.abs().argmax(-1, keepdim=True))
    scale.copy_(farthest[..., 0] / -_MIDDLE)
    steps = scale.float().masked_fill(scale == 0, 1)[..., None]  # a group of zeros
    numbers = (grouped / steps).round_().add_(_MIDDLE).clamp_(0, _LARGEST)
    data.copy_(pack_nibbles(numbers.flatten(1)))
