"""A linear layer that is multiplied as it is, and remembers the largest number that went in."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_hpu.float8.config import QuantConfig
from jackfield_hpu.float8.measurements import Maxima, write
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec

logger = logging.getLogger(__name__)


class Measured(msgspec.Struct, frozen=True, eq=False):
    """A packed layer."""

    weight: Tensor  # [out, in]
    bias: Tensor | None
    largest: Tensor  # float32 [1], on the device: programs write it in place


class MeasuringLinear:
    """Plain weights alone. `save` writes what was seen: at the end, since it waits for the device."""

    name = "hpu-measure"

    def __init__(self, config: QuantConfig) -> None:
        self._config = config
        self._layers: dict[str, Measured] = {}

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if layer.gathers:
            return "a tied embedding stays as it is, and is not measured"
        if not encoding.is_plain:
            return f"measures layers with plain weights, not {encoding.describe()}"
        return self._config.excludes(layer.name)

    def pack(self, encoded: Encoded) -> Measured:
        largest = torch.zeros(1, device=encoded.data.device)
        packed = self._layers[encoded.layer] = Measured(encoded.data, encoded.bias, largest)
        return packed

    def apply(self, x: Tensor, packed: Measured) -> Tensor:
        top = x.abs().amax().float()
        packed.largest.copy_(torch.where(top > packed.largest, top, packed.largest))  # not where it is no number
        return F.linear(x, packed.weight, packed.bias)

    def rows(self, packed: Measured, ids: Tensor) -> Tensor:
        raise AssertionError("rejected for layers that are read by rows")

    @torch.inference_mode()
    def save(self) -> Path | None:
        """Write the file of measurements; None when no layer was measured."""
        maxima = {
            name: Maxima(float(layer.largest), float(layer.weight.abs().amax()))
            for name, layer in self._layers.items()
            if float(layer.largest) > 0
        }
        if not maxima:
            return None
        write(self._config.measurements, maxima)
        logger.info("The largest inputs of %d linear layers are in %s", len(maxima), self._config.measurements)
        return self._config.measurements
