"""4- or 8-bit ints in 32-bit words along the inputs, as compressed-tensors' `pack-quantized` format writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod
from jackfield_quantization.sizes import group_refusal, in_word_refusal, out_word_refusal
from jackfield_quantization.stored_bias import stored_bias
from jackfield_quantization.unquantized import Unquantized
from jackfield_quantization.words import input_order, numbers_of, reorder, without_middle_zero, word_bytes


@dataclass(frozen=True)
class PackedInts(QuantMethod):
    """`(q - zero) * scale`; numbers and zero points are stored with 2^(bits - 1) added, so that none is below zero.

    `weight_packed` holds words along the inputs, `weight_zero_point` along the outputs; `weight_g_idx` is the group of
    each input. Scales of any float are held as float32.
    """

    bits: int
    group: int | None  # None: a whole row
    has_zero: bool
    has_order: bool

    name: ClassVar[str] = "packed-ints"

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        per_word = 32 // self.bits
        return (
            group_refusal(layer, self.group)
            or in_word_refusal(layer, per_word)
            or (out_word_refusal(layer, per_word, "zero points") if self.has_zero else None)
            or Unquantized().rejects(layer, caps)
        )

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        groups, per_word = layer.in_size // (self.group or layer.in_size), 32 // self.bits
        pairs = (2,) * len(layer.out_sizes)
        params = {
            "weight_packed": ParamSpec((layer.out_size, layer.in_size // per_word), "int32"),
            "weight_scale": ParamSpec((layer.out_size, groups), "float32"),
            "weight_shape": ParamSpec((sum(pairs),), "int64", out_sizes=pairs, whole=False, optional=True),
            "bias": ParamSpec((layer.out_size,), layer.dtype, optional=not layer.bias),
        }
        if self.has_order:
            params["weight_g_idx"] = ParamSpec((layer.in_size,), "int32", None)
        if self.has_zero:
            words = tuple(size // per_word for size in layer.out_sizes)
            params["weight_zero_point"] = ParamSpec((sum(words), groups), "int32", out_sizes=words)
        return params

    def encoding(self, layer: LinearSpec) -> Encoding:
        """As the config has it; a layer whose zero points all lie in the middle turns out to have none."""
        return Encoding("int", self.bits, self.group, scale="float32", zero=self.has_zero, ordered=self.has_order)

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        params.pop("weight_shape", None)  # that of the layer, which is known
        data, scale = word_bytes(params.pop("weight_packed")), params.pop("weight_scale")
        if not scale.isfinite().all():
            raise ValueError(f"{layer.name}: weight_scale holds infinite numbers, or what are no numbers")
        order = input_order(params.pop("weight_g_idx", None), layer, self.group or layer.in_size, "weight_g_idx")
        if order is not None:
            reorder(data, order, self.bits)
        data, zero = without_middle_zero(data, self._zero(params), self.bits)
        encoding = Encoding(
            "int", self.bits, self.group, scale="float32", zero=zero is not None, ordered=order is not None
        )
        return Encoded(encoding, data, stored_bias(params.pop("bias", None), layer), scale, zero, order, layer.dtype)

    def _zero(self, params: dict[str, Tensor]) -> Tensor | None:
        """int16 `[out, groups]`."""
        if not self.has_zero:
            return None
        return numbers_of(params.pop("weight_zero_point").t(), self.bits).t().contiguous().to(torch.int16)
