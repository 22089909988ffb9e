"""The lowest logit that top-k and top-p keep, without sorting: an interval around it is cut in 17 again and again.

The weight of all logits from some value on falls as the value rises, so the highest value at which it still suffices
lies between two neighbouring cuts. Where one logit is left between them it is found, after two to six rounds; where
equal ones are, ten rounds narrow the interval by 2^40, beyond what float32 tells apart. A program does a whole row:
each round reads it once more, from the cache.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

NOTHING = tl.constexpr(float("-inf"))


@triton.jit
def weights_above(row, width, edges, floor, top, BY_COUNT: tl.constexpr, CUTS: tl.constexpr, BLOCK: tl.constexpr):
    """`[CUTS]` twice: how many logits, or how much of exp(logit - top), are at each edge or above, and not below
    `floor`; and how many logits are at each edge or above.
    """
    total = tl.zeros([CUTS], tl.float32)
    count = tl.zeros([CUTS], tl.float32)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        number = tl.load(row + column, mask=column < width, other=NOTHING)
        above = number[:, None] >= edges[None, :]
        count += tl.sum(above.to(tl.float32), 0)
        if not BY_COUNT:
            weight = tl.where(number < floor, 0.0, tl.exp(number - top))
            total += tl.sum(tl.where(above, weight[:, None], 0.0), 0)
    if BY_COUNT:
        total = count
    return total, count


@triton.jit
def lowest_from(row, width, bound, BLOCK: tl.constexpr):
    """The lowest logit that is `bound` or more."""
    least = tl.full([BLOCK], float("inf"), tl.float32)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        number = tl.load(row + column, mask=column < width, other=NOTHING)
        least = tl.minimum(least, tl.where(number >= bound, number, float("inf")))
    return tl.min(least, 0)


@triton.jit
def highest_with(
    row, width, low, high, top, wanted,
    BY_COUNT: tl.constexpr, ROUNDS: tl.constexpr, CUTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The highest logit from which on the weights reach `wanted`; `low`, a logit, if none does. `high` is the top."""
    floor = low
    cut = tl.arange(0, CUTS)
    share = (cut + 1).to(tl.float32) / (CUTS + 1)
    done = 0
    from_low = (width + 2).to(tl.float32)  # logits that are `low` or more; so many is more than there are
    from_high = from_low * 0  # the same of `high`; one less than there are while it is the top
    while (done < ROUNDS) & (from_low - from_high > 1):
        edges = low + (high - low) * share
        weights, counts = weights_above(row, width, edges, floor, top, BY_COUNT, CUTS, BLOCK)
        enough = weights >= wanted
        from_low = tl.min(tl.where(enough, counts, from_low), 0)
        from_high = tl.max(tl.where(enough, from_high, counts), 0)
        next_low = tl.max(tl.where(enough, edges, low), 0)
        high = tl.min(tl.where(enough, high, edges), 0)
        low = next_low
        done += 1
    edges = high + tl.zeros([CUTS], tl.float32)
    weights, counts = weights_above(row, width, edges, floor, top, BY_COUNT, CUTS, BLOCK)
    return lowest_from(row, width, tl.where(tl.max(weights, 0) >= wanted, high, low), BLOCK)


@triton.jit
def threshold_kernel(
    logits, top_k, top_p, out, width, row_stride,
    ROUNDS: tl.constexpr, CUTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out `[rows]`: top-k first, then top-p over what it left, renormalised; ties with the lowest stay.

    logits float32 `[rows, width]`, top_k int64, `width` when off, top_p float32, 1 when off.
    """
    at = tl.program_id(0).to(tl.int64)
    row = logits + at * row_stride
    highest = tl.full([BLOCK], NOTHING, tl.float32)
    lowest = tl.full([BLOCK], float("inf"), tl.float32)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        number = tl.load(row + column, mask=column < width, other=NOTHING)
        highest = tl.maximum(highest, number)
        lowest = tl.minimum(lowest, tl.where(number == NOTHING, float("inf"), number))
    top, least = tl.max(highest, 0), tl.min(lowest, 0)
    count = tl.load(top_k + at)
    if count < width:
        least = highest_with(row, width, least, top, top, count.to(tl.float32), True, ROUNDS, CUTS, BLOCK)
    share = tl.load(top_p + at)
    if share < 1.0:
        edges = least + tl.zeros([CUTS], tl.float32)
        masses, _ = weights_above(row, width, edges, least, top, False, CUTS, BLOCK)
        mass = tl.max(masses, 0)
        least = highest_with(row, width, least, top, top, share * mass, False, ROUNDS, CUTS, BLOCK)
    tl.store(out + at, least)
