"""The gate of a SwiGLU layer (Shazeer, 2020). Arithmetic is float32; the product is rounded once."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def silu_mul_kernel(x, out, width, x_row, x_head, heads, BLOCK: tl.constexpr):
    """out `[rows * heads, width]`, dense: silu(first half) * second half of x's rows, which are `2 * width` wide."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    at = (row // heads) * x_row + (row % heads) * x_head + column
    gate = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + at + width, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + column, gate * tl.sigmoid(gate) * up, mask=inside)
