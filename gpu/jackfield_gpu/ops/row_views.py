"""Rows as kernels take them: any tensor as `[rows, heads, width]` with a dense last dimension, if possible a view."""

from __future__ import annotations

from torch import Tensor


def as_rows(x: Tensor) -> Tensor:
    """x as `[rows, heads, width]`; strides of the first two dimensions are free, as a fused projection leaves them."""
    if x.stride(-1) != 1 or x.dim() > 3:
        x = x.contiguous()
    if x.dim() == 3:
        return x
    return x.reshape(-1, 1, x.shape[-1])
