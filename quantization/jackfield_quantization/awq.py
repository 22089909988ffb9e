"""AWQ (Lin et al., 2023) as AutoAWQ's `gemm` version writes it: 4-bit integers in 32-bit words, in groups of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod
from jackfield_platforms.nibbles import pack_nibbles
from jackfield_quantization.config_fields import read_fields
from jackfield_quantization.layer_names import is_named, is_vocabulary
from jackfield_quantization.sizes import group_refusal, out_word_refusal
from jackfield_quantization.stored_bias import stored_bias
from jackfield_quantization.unquantized import Unquantized
from jackfield_quantization.words import numbers_of, without_middle_zero

_PER_WORD = 8
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # of a word's eight outputs; the even ones come first
_WORDS = 128  # columns of words that are brought into order at a time


class _Fields(msgspec.Struct, frozen=True):
    bits: int = 4
    group_size: int = 128
    zero_point: bool = True
    version: str = "gemm"
    modules_to_not_convert: tuple[str, ...] = ()


@dataclass(frozen=True)
class Awq(QuantMethod):
    """`(q - zero) * scale`, a float16 scale and a zero point for each group of a row.

    Words lie along the outputs, in `qweight` and `qzeros` alike, and hold eight: 0, 2, 4, 6, 1, 3, 5, 7, the first in
    the lowest bits.
    """

    group: int | None = 128  # None: a whole row
    ignored: tuple[str, ...] = ()

    name: ClassVar[str] = "awq"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QuantMethod:
        fields = read_fields(config, _Fields)
        for field, wanted in (("bits", 4), ("zero_point", True)):
            if getattr(fields, field) != wanted:
                raise ValueError(f"{field} is {getattr(fields, field)}; supported: {wanted}")
        if fields.version.lower() != "gemm":
            raise ValueError(f"version is {fields.version!r}; supported: gemm")
        if fields.group_size != -1 and fields.group_size < 1:
            raise ValueError(f"group_size is {fields.group_size}; wanted -1 (a whole row) or a positive number")
        return cls(None if fields.group_size == -1 else fields.group_size, fields.modules_to_not_convert)

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        if layer.in_size % 2:
            return f"in_size {layer.in_size} is odd, and two numbers share a byte"
        return (
            group_refusal(layer, self.group)
            or out_word_refusal(layer, _PER_WORD, "numbers")
            or Unquantized().rejects(layer, caps)
        )

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        groups = layer.in_size // (self.group or layer.in_size)
        words = tuple(size // _PER_WORD for size in layer.out_sizes)
        return {
            "qweight": ParamSpec((layer.in_size, sum(words)), "int32", 1, words),
            "qzeros": ParamSpec((groups, sum(words)), "int32", 1, words),
            "scales": ParamSpec((groups, layer.out_size), "float16", 1),
            "bias": ParamSpec((layer.out_size,), layer.dtype, optional=not layer.bias),
        }

    def encoding(self, layer: LinearSpec) -> Encoding:
        """With zero points; a layer where all lie in the middle turns out to have none."""
        return Encoding("int", 4, self.group, scale="float16", zero=True)

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        scale = params.pop("scales").t().contiguous()
        if not scale.isfinite().all():
            raise ValueError(f"{layer.name}: scales are infinite or no numbers in float16")
        zero = _outputs(params.pop("qzeros")).contiguous().to(torch.int16)
        data, kept = without_middle_zero(_packed_rows(params.pop("qweight")), zero, 4)
        encoding = Encoding("int", 4, self.group, scale="float16", zero=kept is not None)
        bias = stored_bias(params.pop("bias", None), layer)
        return Encoded(encoding, data, bias, scale, kept, dtype=layer.dtype)

    def covers(self, name: str) -> bool:
        return not is_vocabulary(name) and not is_named(name, self.ignored)


def _outputs(words: Tensor) -> Tensor:
    """int32 `[n, words]` to uint8 `[8 * words, n]`, the outputs in their order."""
    places = torch.tensor(_PLACES, device=words.device)
    return numbers_of(words, 4).view(len(words), -1, _PER_WORD).index_select(-1, places).flatten(-2).t()


def _packed_rows(words: Tensor) -> Tensor:
    """int32 `[in, words]` to uint8 `[8 * words, in / 2]`, the canonical form of 4-bit ints."""
    in_size, count = words.shape
    data = torch.empty(_PER_WORD * count, in_size // 2, dtype=torch.uint8, device=words.device)
    for part, rows in zip(words.split(_WORDS, dim=1), data.split(_WORDS * _PER_WORD), strict=True):
        rows.copy_(pack_nibbles(_outputs(part)))
    return data
