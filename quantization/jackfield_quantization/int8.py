"""Plain weights that become 8-bit integers while they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod
from jackfield_quantization.layer_names import is_vocabulary
from jackfield_quantization.panels import in_panels
from jackfield_quantization.sizes import group_refusal
from jackfield_quantization.unquantized import Unquantized

_LARGEST = 127  # symmetric: -128 is not used


@dataclass(frozen=True)
class Int8(QuantMethod):
    """Symmetric int8, a float32 scale a row: the largest magnitude becomes 127. The vocabulary stays plain."""

    name: ClassVar[str] = "int8"
    on_line: ClassVar[bool] = True
    shards: ClassVar[bool] = True  # a rank's part of a row has a scale of its own
    group: ClassVar[int | None] = None

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        return group_refusal(layer, self.group) or Unquantized().rejects(layer, caps)

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        return Unquantized().params(layer)

    def encoding(self, layer: LinearSpec) -> Encoding:
        return Encoding("int", 8, group=self.group, scale="float32")

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        weight = params.pop("weight")
        group = self.group or layer.in_size
        data = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        scale = torch.empty(layer.out_size, layer.in_size // group, device=weight.device)
        in_panels(_encode, weight, data, scale)
        if not scale.isfinite().all():
            raise ValueError(f"{layer.name}: weights that are infinite or no numbers cannot be written as int8")
        return Encoded(self.encoding(layer), data, params.pop("bias", None), scale, dtype=layer.dtype)

    def covers(self, name: str) -> bool:
        return not is_vocabulary(name)


@dataclass(frozen=True)
class WholeInt8(Int8):
    """Symmetric int8 rows, the head and a tied embedding among them, as in llama.cpp's Q8_0 and OpenVINO's int8."""

    name: ClassVar[str] = "int8-all"

    def covers(self, name: str) -> bool:
        return True


@dataclass(frozen=True)
class GroupedInt8(Int8):
    """Symmetric int8, a float32 scale for each 128 inputs of a row."""

    name: ClassVar[str] = "int8-g128"
    group: ClassVar[int | None] = 128


def _encode(weight: Tensor, data: Tensor, scale: Tensor) -> None:
    """Fill data `[rows, in]` and scale `[rows, groups]`."""
    grouped = weight.float().unflatten(1, (scale.shape[1], -1))
    torch.div(grouped.abs().amax(-1), _LARGEST, out=scale)
    steps = scale.masked_fill(scale == 0, 1)  # a group of zeros
    data.copy_((grouped / steps[..., None]).round_().clamp_(-_LARGEST, _LARGEST).flatten(1))
