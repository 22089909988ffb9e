"""8-bit floats: block-wise, as DeepSeek-V3 (DeepSeek-AI, 2024) and Qwen3 publish them, or with one scale a tensor."""

from __future__ import annotations

import math
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
from jackfield_quantization.row_scaled import RowScaled
from jackfield_quantization.unquantized import Unquantized


class _Fields(msgspec.Struct, frozen=True):
    weight_block_size: tuple[int, int] | None = None
    fmt: str = "e4m3"
    activation_scheme: str = "dynamic"
    modules_to_not_convert: tuple[str, ...] = ()
    ignored_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class BlockFp8(QuantMethod):
    """float8_e4m3fn weights; `weight_scale_inv`, despite its name, multiplies a block of `block_out` x `block_in`.

    Activations are not rounded to 8 bits. Where the parts of a fused layer do not end at a block's edge, the scales are
    written for smaller blocks, which changes no number.
    """

    block_out: int = 128
    block_in: int = 128
    ignored: tuple[str, ...] = ()
    scales: str = "weight_scale_inv"  # what a checkpoint calls them

    name: ClassVar[str] = "fp8"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QuantMethod:
        fields = read_fields(config, _Fields)
        ignored = fields.modules_to_not_convert + fields.ignored_layers
        if fields.fmt != "e4m3":
            raise ValueError(f"fmt is {fields.fmt!r}; supported: e4m3")
        schemes = ("dynamic", "static") if fields.weight_block_size is None else ("dynamic",)
        if fields.activation_scheme not in schemes:
            raise ValueError(f"activation_scheme is {fields.activation_scheme!r}; supported: {', '.join(schemes)}")
        if fields.weight_block_size is None:
            return RowScaled("float8_e4m3fn", by_rows=False, ignored=ignored)
        if min(fields.weight_block_size) < 1:
            raise ValueError(f"weight_block_size is {list(fields.weight_block_size)}; wanted two positive numbers")
        return cls(*fields.weight_block_size, ignored)

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        return Unquantized().rejects(layer, caps)

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        blocks = tuple(math.ceil(size / self.block_out) for size in layer.out_sizes)
        scales = (sum(blocks), math.ceil(layer.in_size / self.block_in))
        aligned = _step(layer, self.block_out) == self.block_out
        params = {
            "weight": ParamSpec((layer.out_size, layer.in_size), "float8_e4m3fn"),
            self.scales: ParamSpec(scales, "float32", out_sizes=blocks, whole=aligned),
        }
        return {**params, "bias": ParamSpec((layer.out_size,), layer.dtype)} if layer.bias else params

    def encoding(self, layer: LinearSpec) -> Encoding:
        step = _step(layer, self.block_out)
        return Encoding("float", 8, group=self.block_in, group_out=step, scale="float32")

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        scale, step = params.pop(self.scales), _step(layer, self.block_out)
        if not scale.isfinite().all():
            raise ValueError(f"{layer.name}: {self.scales} holds infinite numbers, or what are no numbers")
        if step != self.block_out:
            scale = self._finer(scale, layer, step)
        return Encoded(self.encoding(layer), params.pop("weight"), params.pop("bias", None), scale, dtype=layer.dtype)

    def covers(self, name: str) -> bool:
        return not is_vocabulary(name) and not is_named(name, self.ignored)

    def _finer(self, scale: Tensor, layer: LinearSpec, step: int) -> Tensor:
        """The same scales for blocks of `step` rows, which divides `block_out` and every part but the last."""
        parts = scale.split([math.ceil(size / self.block_out) for size in layer.out_sizes])
        repeated = [part.repeat_interleave(self.block_out // step, dim=0) for part in parts]
        sizes = [math.ceil(size / step) for size in layer.out_sizes]
        return torch.cat([part[:size] for part, size in zip(repeated, sizes, strict=True)])


def _step(layer: LinearSpec, block: int) -> int:
    """Rows of the largest blocks whose edges are those of every part of a fused layer."""
    return math.gcd(block, *layer.out_sizes[:-1])
