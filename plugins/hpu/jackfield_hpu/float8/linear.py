"""A linear layer in 8-bit floats: its weight rounded once, its input at each product, with measured or own scales."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor

from jackfield_hpu.float8.config import QuantConfig
from jackfield_hpu.float8.measurements import Maxima
from jackfield_hpu.float8.products import Products, Scale
from jackfield_hpu.float8.scales import ScaleMethod, scale_method, scale_of
from jackfield_hpu.generation import GAUDI2, Generation
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec


class Float8Settings(msgspec.Struct, frozen=True):
    """What the user asked for, on which device, and what was measured."""

    config: QuantConfig
    device: Generation
    measured: Mapping[str, Maxima]

    @property
    def method(self) -> ScaleMethod:
        """The scales; ValueError for a method that is not known."""
        return scale_method(self.config.scale_method, dynamic=self.config.dynamic_quantization)

    @property
    def scales_device(self) -> Generation:
        """Whose free scales are taken: Gaudi 3 has those of Gaudi 2 too, which need fewer programs."""
        return GAUDI2 if self.config.device_for_scales == GAUDI2.name else self.device


class Float8Weight(msgspec.Struct, frozen=True, eq=False):
    """A packed layer. `x_scale` None: by token, from what it is."""

    data: Tensor  # [out, in]
    scale: Scale
    bias: Tensor | None
    x_scale: Scale | None


class Float8Linear:
    """Quantises plain weights while they are packed; weights that come in 8-bit floats stay what they are."""

    def __init__(self, settings: Float8Settings, products: Products) -> None:
        self.name, self._settings, self._products = products.name, settings, products
        self._method, self._device = settings.method, settings.device

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if layer.gathers:
            return "keeps no weight to read row by row (tied embedding)"
        reason = self._settings.config.excludes(layer.name) or self._rejects_encoding(encoding)
        if reason is not None:
            return reason
        if self._needs_measurement and layer.name not in self._settings.measured:
            return f"{self._settings.config.measurements} holds no measurement of {layer.name}"
        return self._products.missing()

    def pack(self, encoded: Encoded) -> Float8Weight:
        data, scale = self._rounded(encoded) if encoded.encoding.is_plain else _stored(encoded)
        x_scale = None if self._method.dynamic else self._input_scale(encoded)
        if self._settings.config.scale_format == "const" or x_scale is None or scale.numel() > 1:
            return Float8Weight(data, scale, encoded.bias, x_scale)
        return Float8Weight(
            data, float(scale), encoded.bias, float(x_scale)
        )  # the vendor's product takes two of a kind

    def apply(self, x: Tensor, packed: Float8Weight) -> Tensor:
        x_scale = self._own_scale(x) if packed.x_scale is None else packed.x_scale
        rounded = self._products.cast(x, 1 / x_scale, self._device.most)
        return self._products.multiply(rounded, packed.data, (x_scale, packed.scale), packed.bias, x.dtype)

    def rows(self, packed: Float8Weight, ids: Tensor) -> Tensor:
        raise AssertionError("rejected for layers that are read by rows")

    @property
    def _needs_measurement(self) -> bool:
        return not self._method.dynamic and self._method.activation != "one"

    def _rejects_encoding(self, encoding: Encoding) -> str | None:
        if encoding.is_plain:
            return None
        if (encoding.kind, encoding.bits, encoding.group) != ("float", 8, None):
            return f"takes plain weights, and 8-bit floats with scales of whole rows, not {encoding.describe()}"
        if self._device.name == GAUDI2.name:
            return f"a checkpoint's 8-bit floats reach to 448, and {self._device.name}'s to {self._device.most:.0f}"
        return None

    def _rounded(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """8-bit floats of a plain weight `[out, in]`, and their scales: [1, out], or [1, 1] of all."""
        by_row = self._method.weight_by_row
        largest = encoded.data.abs().amax(1, keepdim=True) if by_row else encoded.data.abs().amax().view(1, 1)
        backoff = self._settings.config.scale_params.weight_backoff
        scale = scale_of(largest, self._method.weight, backoff, self._settings.scales_device)
        return self._products.cast(encoded.data, 1 / scale, self._device.most), scale.t().contiguous()

    def _input_scale(self, encoded: Encoded) -> Tensor:
        measured = self._settings.measured.get(encoded.layer)
        assert measured is not None or not self._needs_measurement, f"{encoded.layer!r} was not measured, and accepted"
        largest = torch.tensor([0.0 if measured is None else measured.input], device=encoded.data.device)
        backoff = self._settings.config.scale_params.input_backoff
        return scale_of(largest, self._method.activation, backoff, self._settings.scales_device)

    def _own_scale(self, x: Tensor) -> Tensor:
        """By token, [tokens, 1]; the whole range is used, since nothing larger can come."""
        return scale_of(x.abs().amax(-1, keepdim=True), self._method.activation, 1.0, self._device)


def _stored(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """A checkpoint's 8-bit floats, and the scale of each row, [1, out]."""
    assert encoded.scale is not None, "rejected"
    scale = encoded.scale.float().repeat_interleave(encoded.encoding.group_out, dim=0)[: len(encoded.data)]
    return encoded.data, scale.t().contiguous()
