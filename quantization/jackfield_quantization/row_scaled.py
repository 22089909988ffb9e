"""Weights of 8 bits, floats or ints, with one scale a row or one for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod
from jackfield_quantization.layer_names import is_named, is_vocabulary
from jackfield_quantization.stored_bias import stored_bias
from jackfield_quantization.unquantized import Unquantized


@dataclass(frozen=True)
class RowScaled(QuantMethod):
    """`weight * weight_scale`: e4m3 floats or signed ints; a scale a row, or one for each part of a fused layer.

    Activations stay as they are: `input_scale`, with which they would be rounded to 8 bits, is read and dropped.
    """

    dtype: Literal["float8_e4m3fn", "int8"]
    by_rows: bool
    ignored: tuple[str, ...] = ()

    name: ClassVar[str] = "fp8"  # of a checkpoint that has it alone; compressed-tensors speaks for its own

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        return Unquantized().rejects(layer, caps)

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        ones = (1,) * len(layer.out_sizes)
        by_rows = ParamSpec((layer.out_size, 1), "float32")
        by_parts = ParamSpec((len(ones),), "float32", out_sizes=ones, whole=False)
        return {
            "weight": ParamSpec((layer.out_size, layer.in_size), self.dtype),
            "weight_scale": by_rows if self.by_rows else by_parts,
            "input_scale": ParamSpec((len(ones),), "float32", out_sizes=ones, whole=False, optional=True),
            "bias": ParamSpec((layer.out_size,), layer.dtype, optional=not layer.bias),
        }

    def encoding(self, layer: LinearSpec) -> Encoding:
        return Encoding("int" if self.dtype == "int8" else "float", 8, scale="float32")

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        params.pop("input_scale", None)
        scale = params.pop("weight_scale")
        if not scale.isfinite().all():
            raise ValueError(f"{layer.name}: weight_scale holds infinite numbers, or what are no numbers")
        if not self.by_rows:
            scale = scale.repeat_interleave(torch.tensor(layer.out_sizes, device=scale.device))[:, None]
        bias = stored_bias(params.pop("bias", None), layer)
        return Encoded(self.encoding(layer), params.pop("weight"), bias, scale, dtype=layer.dtype)

    def covers(self, name: str) -> bool:
        return not is_vocabulary(name) and not is_named(name, self.ignored)
