"""The answers of a launch whose keys were cut in splits (Flash-Decoding, Dao et al., 2023)."""

from __future__ import annotations

import triton
import triton.language as tl

from jackfield_attention.triton.softmax_kernels import tile_of


@triton.jit(do_not_specialize=["num_tokens"])
def join_splits_kernel(
    part_out, part_top, part_sum, out, query_start, num_new, kv_len, tile_row, tile_first, num_tokens,
    QUERY_HEADS: tl.constexpr, QUERIES: tl.constexpr, V_DIM: tl.constexpr, V_TILE: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """One query token and head. Parts are `[SPLITS, tokens, heads, ...]`, relative to their own highest scores.

    A split without a key holds zeros and a highest score of -inf; no token is without any.
    """
    tile = tl.program_id(0) // QUERIES
    query = tl.program_id(0) % QUERIES
    _row, count, _position, token = tile_of(tile, tile_row, tile_first, num_new, kv_len, query_start, QUERIES)
    if query >= count:
        return
    split = tl.arange(0, SPLITS)
    dim = tl.arange(0, V_TILE)
    line = (token + query).to(tl.int64) * QUERY_HEADS + tl.program_id(1)
    at = split.to(tl.int64) * num_tokens * QUERY_HEADS + line
    top = tl.load(part_top + at)
    share = tl.exp2(top - tl.max(top, 0))
    total = tl.sum(tl.load(part_sum + at) * share, 0)
    parts = tl.load(part_out + at[:, None] * V_DIM + dim[None, :], mask=(dim < V_DIM)[None, :], other=0.0)
    answer = tl.sum(parts * share[:, None], 0) / total
    tl.store(out + line * V_DIM + dim, answer.to(out.dtype.element_ty), mask=dim < V_DIM)
