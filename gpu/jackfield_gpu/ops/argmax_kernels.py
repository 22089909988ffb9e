"""The place of the highest number in each row, of equals the first: parts of rows apart, then the parts of a row."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

NOWHERE = tl.constexpr(2147483647)  # a place behind every other


@triton.jit
def argmax_parts_kernel(x, tops, places, width, x_row, part, BLOCK: tl.constexpr):
    """tops, places `[rows, parts]`: the highest of each `part` numbers of a row, and where in the row it is.

    A NaN counts as infinity.
    """
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * part
    last = tl.minimum(first + part, width)
    lane = tl.arange(0, BLOCK)
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    place = first + lane
    for start in range(first, last, BLOCK):
        column = start + lane
        number = tl.load(x + row * x_row + column, mask=column < last, other=float("-inf")).to(tl.float32)
        number = tl.where(number != number, float("inf"), number)
        higher = number > top
        place = tl.where(higher, column, place)
        top = tl.where(higher, number, top)
    highest = tl.max(top, 0)
    at = row * tl.num_programs(1) + tl.program_id(1)
    tl.store(tops + at, highest)
    tl.store(places + at, tl.min(tl.where((top == highest) & (place < last), place, NOWHERE), 0))


@triton.jit
def argmax_rows_kernel(tops, places, out, PARTS: tl.constexpr):
    """out `[rows]` int64, from `PARTS` parts a row."""
    row = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, PARTS)
    top = tl.load(tops + row * PARTS + part)
    place = tl.load(places + row * PARTS + part)
    first = tl.min(tl.where(top == tl.max(top, 0), place, NOWHERE), 0)
    tl.store(out + row, first.to(tl.int64))
