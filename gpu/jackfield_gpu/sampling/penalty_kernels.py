"""Penalties on logits, from counts that are lines of one table."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def penalize_kernel(logits, seen, places, factors, out, width, row_stride, seen_stride, BLOCK: tl.constexpr):
    """out `[rows, width]` float32, dense. seen int32 lines of twice a count, and 1 for the prompt; factors `[rows, 3]`.

    Grid: (rows, blocks of a row).
    """
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    number = tl.load(logits + row * row_stride + column, mask=inside, other=0.0)
    known = tl.load(seen + tl.load(places + row) * seen_stride + column, mask=inside, other=0)
    repetition = tl.load(factors + 3 * row)
    frequency = tl.load(factors + 3 * row + 1)
    presence = tl.load(factors + 3 * row + 2)
    repeated = tl.where(number > 0, number / repetition, number * repetition)
    number = tl.where(known > 0, repeated, number)
    generated = known >> 1
    number -= frequency * generated.to(tl.float32) + tl.where(generated > 0, presence, 0.0)
    tl.store(out + row * width + column, number, mask=inside)
