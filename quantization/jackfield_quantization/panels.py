"""Encoding plain weights some rows at a time, so that float32 copies stay small."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

PANEL_NUMBERS = 2**20  # encoded at a time


def in_panels(encode: Callable[[Tensor, Tensor, Tensor], None], weight: Tensor, data: Tensor, scale: Tensor) -> None:
    """`encode(weight, data, scale)` of some rows of all three after others: fills `data` and `scale`."""
    step = max(1, PANEL_NUMBERS // weight.shape[1])
    for panel in zip(weight.split(step), data.split(step), scale.split(step), strict=True):
        encode(*panel)
