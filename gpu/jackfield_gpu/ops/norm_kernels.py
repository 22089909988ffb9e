"""RMS norm over rows, alone and behind a residual sum. Arithmetic is float32; results have the output's dtype.

Rows are `[rows, heads, width]`, cut into tiles of `ROWS` of the `rows * heads`; `WIDTH` is a power of two.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rms_norm_kernel(
    x, weight, out, count, heads, width, x_row, x_head, eps, ROWS: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """out `[count, width]`, dense: x / rms(x), rounded, times weight `[width]`. x has strides `x_row` and `x_head`."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = (row < count)[:, None] & (column < width)[None, :]
    at = (row // heads) * x_row + (row % heads) * x_head
    wide = tl.load(x + at[:, None] + column[None, :], mask=inside, other=0.0).to(tl.float32)
    gain = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    scale = tl.math.rsqrt(tl.sum(wide * wide, 1) / width + eps)
    rounded = (wide * scale[:, None]).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row[:, None] * width + column[None, :], rounded * gain[None, :], mask=inside)


@triton.jit
def add_rms_norm_kernel(
    partial, residual, weight, out, total, count, width, partial_row, residual_row, eps,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """total = residual + partial, rounded; out = its norm times weight. Both `[count, width]`, dense."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = (row < count)[:, None] & (column < width)[None, :]
    first = tl.load(partial + row[:, None] * partial_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
    second = tl.load(residual + row[:, None] * residual_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
    to = row[:, None] * width + column[None, :]
    summed = (first + second).to(total.dtype.element_ty)
    tl.store(total + to, summed, mask=inside)
    wide = summed.to(tl.float32)
    gain = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    scale = tl.math.rsqrt(tl.sum(wide * wide, 1) / width + eps)
    rounded = (wide * scale[:, None]).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + to, rounded * gain[None, :], mask=inside)
