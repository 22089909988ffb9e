"""What the attention kernels share: tiles of queries, and the softmax that goes along the keys.

Softmax as in FlashAttention-2 (Dao, 2023): sums are relative to the highest score so far and fade when a higher one
comes. Scores are in units of log2(e), so that exponentials are powers of two. All but matrix products is float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_of(tile, tile_row, tile_first, num_new, kv_len, query_start, QUERIES: tl.constexpr):
    """(row, real queries, position of the first query in its row, its token); no queries: the tile is nobody's."""
    row = tl.load(tile_row + tile)
    first = tl.load(tile_first + tile)
    new = tl.load(num_new + row)
    count = tl.minimum(new - first, QUERIES)
    position = tl.load(kv_len + row) - new + first
    token = tl.load(query_start + row) + first
    return row, count, position, token


@triton.jit
def stretch_of(position, count, KEYS: tl.constexpr, WINDOW: tl.constexpr, IS_SPLIT: tl.constexpr):
    """(first key, start, seen by all, stop) of a program: it reads keys from `start` to `stop`, in steps of `KEYS`.

    `start` is a multiple of `KEYS`, and keys before `first` are out of every query's sight. Up to `seen by all`,
    another multiple, every query sees every key; a window leaves no such stretch.
    """
    stop = position + count
    first = position * 0
    if WINDOW > 0:
        first = tl.maximum(position - WINDOW + 1, 0)
    start = first // KEYS * KEYS
    if IS_SPLIT:
        each = tl.cdiv(tl.cdiv(stop - start, KEYS), tl.num_programs(2)) * KEYS
        start = start + tl.program_id(2) * each
        stop = tl.minimum(stop, start + each)
    if WINDOW > 0:
        whole = start
    else:
        whole = tl.maximum(start, tl.minimum(stop, (position + 1) // KEYS * KEYS))
    return first, start, whole, stop


@triton.jit
def capped(scores, cap):
    """cap * tanh(scores), without an exponential that may overflow."""
    fall = tl.exp2(tl.abs(scores) * -2.8853900817779268)  # e ** (-2 |x|)
    size = cap * (1.0 - fall) / (1.0 + fall)
    return tl.where(scores < 0, -size, size)


@triton.jit
def begun(sinks, heads, is_real, ROWS: tl.constexpr, HAS_SINKS: tl.constexpr, IS_SPLIT: tl.constexpr):
    """(highest score, sum of weights) `[ROWS]` before any key: nothing, or a sink's, which one split counts."""
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    if HAS_SINKS:
        sink = tl.load(sinks + heads, mask=is_real, other=0.0).to(tl.float32) * 1.4426950408889634
        if IS_SPLIT:
            is_first = tl.program_id(2) == 0
            top = tl.where(is_first, sink, top)
            total = tl.where(is_first, total + 1.0, total)
        else:
            top = sink
            total = total + 1.0
    return top, total


@triton.jit
def weighed(scores, top, total, MASKED: tl.constexpr):
    """(weights, how far earlier sums fade, highest score, sum of weights) after one step's scores `[ROWS, KEYS]`."""
    high = tl.maximum(top, tl.max(scores, 1))
    base = high
    if MASKED:
        base = tl.where(high == float("-inf"), 0.0, high)  # of a line that sees no key yet
    weights = tl.exp2(scores - base[:, None])
    fade = tl.exp2(top - base)
    return weights, fade, high, total * fade + tl.sum(weights, 1)


@triton.jit
def give(
    acc, top, total, out, part_out, part_top, part_sum, tokens, heads, is_real, num_tokens,
    QUERY_HEADS: tl.constexpr, V_DIM: tl.constexpr, V_TILE: tl.constexpr, IS_SPLIT: tl.constexpr,
):  # fmt: skip
    """Store lines `[ROWS, V_TILE]`: answers to `out`, or one split's part of them beside its highest score and sum."""
    dim = tl.arange(0, V_TILE)
    mask = is_real[:, None] & (dim < V_DIM)[None, :]
    line = tokens.to(tl.int64) * QUERY_HEADS + heads
    if IS_SPLIT:
        line += tl.program_id(2).to(tl.int64) * num_tokens * QUERY_HEADS
        tl.store(part_out + line[:, None] * V_DIM + dim[None, :], acc, mask=mask)
        tl.store(part_top + line, top, mask=is_real)
        tl.store(part_sum + line, total, mask=is_real)
    else:
        answer = acc / tl.where(total == 0, 1.0, total)[:, None]
        tl.store(out + line[:, None] * V_DIM + dim[None, :], answer.to(out.dtype.element_ty), mask=mask)
