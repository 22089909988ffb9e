"""GPTQ (Frantar et al., 2022) as AutoGPTQ writes it: 4- or 8-bit integers in 32-bit words, in groups of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod
from jackfield_quantization.config_fields import read_fields
from jackfield_quantization.layer_names import is_named, is_vocabulary
from jackfield_quantization.sizes import group_refusal, in_word_refusal, out_word_refusal
from jackfield_quantization.stored_bias import stored_bias
from jackfield_quantization.unquantized import Unquantized
from jackfield_quantization.words import input_order, numbers_of, reorder, without_middle_zero, word_bytes

_OFFSETS = {"gptq": 1, "gptq_v2": 0}  # the first format stores zero points less one


class _Fields(msgspec.Struct, frozen=True):
    bits: int
    group_size: int = -1
    desc_act: bool = False
    lm_head: bool = False
    checkpoint_format: str = "gptq"
    is_marlin_format: bool = False
    dynamic: dict[str, Any] = {}
    modules_in_block_to_quantize: tuple[tuple[str, ...], ...] = ()
    modules_to_not_convert: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gptq(QuantMethod):
    """`(q - zero) * scale`, a float16 scale and a zero point for each group of a row.

    Words hold 32 / bits numbers, the first in the lowest bits: `qweight` along the inputs, `qzeros` along the outputs.
    `g_idx` is the group of each input; where groups do not lie side by side, the inputs are reordered.
    """

    bits: int
    group: int | None  # None: a whole row
    has_order: bool  # whether `g_idx` must be there
    offset: int = 1  # what is added to a stored zero point
    head: bool = False  # whether the head is encoded too
    only: tuple[str, ...] = ()  # the modules that are; empty: all
    ignored: tuple[str, ...] = ()

    name: ClassVar[str] = "gptq"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QuantMethod:
        fields = read_fields(config, _Fields)
        _check(fields)
        return cls(
            bits=fields.bits,
            group=None if fields.group_size == -1 else fields.group_size,
            has_order=fields.desc_act,
            offset=_OFFSETS[fields.checkpoint_format],
            head=fields.lm_head,
            only=tuple(name for block in fields.modules_in_block_to_quantize for name in block),
            ignored=fields.modules_to_not_convert,
        )

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        per_word = 32 // self.bits
        return (
            group_refusal(layer, self.group)
            or in_word_refusal(layer, per_word)
            or out_word_refusal(layer, per_word, "zero points")
            or Unquantized().rejects(layer, caps)
        )

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        groups, per_word = layer.in_size // (self.group or layer.in_size), 32 // self.bits
        words = tuple(size // per_word for size in layer.out_sizes)
        return {
            "qweight": ParamSpec((layer.in_size // per_word, layer.out_size), "int32", 1),
            "qzeros": ParamSpec((groups, sum(words)), "int32", 1, words),
            "scales": ParamSpec((groups, layer.out_size), "float16", 1),
            "g_idx": ParamSpec((layer.in_size,), "int32", None, optional=not self.has_order),
            "bias": ParamSpec((layer.out_size,), layer.dtype, optional=not layer.bias),
        }

    def encoding(self, layer: LinearSpec) -> Encoding:
        """As the config has it; a layer whose zero points all lie in the middle turns out to have none."""
        return Encoding("int", self.bits, self.group, scale="float16", zero=True, ordered=self.has_order)

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        data = word_bytes(params.pop("qweight").t())  # [out, in * bits / 8]
        zero, scale = self._zero(params.pop("qzeros")), params.pop("scales").t().contiguous()
        if not scale.isfinite().all():
            raise ValueError(f"{layer.name}: scales are infinite or no numbers in float16")
        order = input_order(params.pop("g_idx", None), layer, self.group or layer.in_size, "g_idx")
        if order is not None:
            reorder(data, order, self.bits)
        data, kept = without_middle_zero(data, zero, self.bits)
        encoding = Encoding(
            "int", self.bits, self.group, scale="float16", zero=kept is not None, ordered=order is not None
        )
        return Encoded(encoding, data, stored_bias(params.pop("bias", None), layer), scale, kept, order, layer.dtype)

    def covers(self, name: str) -> bool:
        if is_vocabulary(name):
            return self.head and name == "lm_head"
        return (not self.only or is_named(name, self.only)) and not is_named(name, self.ignored)

    def _zero(self, words: Tensor) -> Tensor:
        """int32 `[groups, words]` to int16 `[out, groups]`."""
        return numbers_of(words, self.bits).t().contiguous().to(torch.int16) + self.offset


def _check(fields: _Fields) -> None:
    if fields.bits not in (4, 8):
        raise ValueError(f"bits is {fields.bits}; supported: 4, 8")
    if fields.group_size != -1 and fields.group_size < 1:
        raise ValueError(f"group_size is {fields.group_size}; wanted -1 (a whole row) or a positive number")
    if fields.checkpoint_format not in _OFFSETS or fields.is_marlin_format:
        found = "marlin" if fields.is_marlin_format else fields.checkpoint_format
        raise ValueError(f"checkpoint_format is {found!r}; supported: {', '.join(_OFFSETS)}")
    if fields.dynamic:
        raise ValueError("dynamic sets modules apart, which is not supported")
