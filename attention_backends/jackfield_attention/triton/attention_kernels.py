"""Attention over paged keys and values, for prompts, decode and both in one launch.

The query heads that share a kv head are lines of one tile, so that its keys are loaded once for all of them (Ainslie
et al., 2023); blocks are found through a table (PagedAttention, Kwon et al., 2023). Keys that no query of a tile may
see are not loaded, wherever they lie: nobody may have written them, and a weight of 0 would not hide a NaN.
"""

from __future__ import annotations

import triton
import triton.language as tl

from jackfield_attention.triton.float8_kernels import widened
from jackfield_attention.triton.softmax_kernels import begun, capped, give, stretch_of, tile_of, weighed


@triton.jit
def _attended(
    queries, place, slope, acc, top, total, k_head, v_head, table, first, start, stop, scale, cap, k_block, v_block,
    KEYS: tl.constexpr, BLOCK_SIZE: tl.constexpr, K_DIM: tl.constexpr, K_TILE: tl.constexpr,
    V_DIM: tl.constexpr, V_TILE: tl.constexpr, WINDOW: tl.constexpr, HAS_CAP: tl.constexpr,
    HAS_SLOPES: tl.constexpr, FP8: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """(acc, top, total) after the keys from `start` to `stop`. Without `MASKED` every query sees all of them, and they
    are whole steps.
    """
    k_dim = tl.arange(0, K_TILE)
    v_dim = tl.arange(0, V_TILE)
    for at in range(start, stop, KEYS):
        key = at + tl.arange(0, KEYS)
        inside = (key >= first) & (key < stop)
        if BLOCK_SIZE % KEYS == 0:  # all in one block
            block = tl.load(table + at // BLOCK_SIZE).to(tl.int64)
            offset = at % BLOCK_SIZE + tl.arange(0, KEYS)
            k_rows = k_head + block * k_block + offset * K_DIM
            v_rows = v_head + block * v_block + offset * V_DIM
        else:
            if MASKED:
                blocks = tl.load(table + key // BLOCK_SIZE, mask=inside, other=0).to(tl.int64)
            else:
                blocks = tl.load(table + key // BLOCK_SIZE).to(tl.int64)
            k_rows = k_head + blocks * k_block + key % BLOCK_SIZE * K_DIM
            v_rows = v_head + blocks * v_block + key % BLOCK_SIZE * V_DIM

        k_at = k_rows[None, :] + k_dim[:, None]  # transposed
        if MASKED:
            keys = tl.load(k_at, mask=inside[None, :] & (k_dim < K_DIM)[:, None], other=0)
        elif K_DIM < K_TILE:
            keys = tl.load(k_at, mask=(k_dim < K_DIM)[:, None], other=0)
        else:
            keys = tl.load(k_at)
        scores = tl.dot(queries, widened(keys, FP8).to(queries.dtype), input_precision="ieee") * scale
        if HAS_CAP:
            scores = capped(scores, cap)
        if HAS_SLOPES:
            scores += slope[:, None] * (key[None, :] - place[:, None]).to(tl.float32)
        if MASKED:
            seen = inside[None, :] & (key[None, :] <= place[:, None])
            if WINDOW > 0:
                seen = seen & (key[None, :] > place[:, None] - WINDOW)
            scores = tl.where(seen, scores, float("-inf"))
        weights, fade, top, total = weighed(scores, top, total, MASKED)

        v_at = v_rows[:, None] + v_dim[None, :]
        if MASKED:
            values = tl.load(v_at, mask=inside[:, None] & (v_dim < V_DIM)[None, :], other=0)
        elif V_DIM < V_TILE:
            values = tl.load(v_at, mask=(v_dim < V_DIM)[None, :], other=0)
        else:
            values = tl.load(v_at)
        values = widened(values, FP8).to(queries.dtype)
        acc = tl.dot(weights.to(queries.dtype), values, acc * fade[:, None], input_precision="ieee")
    return acc, top, total


@triton.jit(do_not_specialize=["num_tokens"])
def attention_kernel(
    q, k_cache, v_cache, out, part_out, part_top, part_sum, sinks, slopes, k_scale, v_scale,
    columns, query_start, num_new, kv_len, tile_row, tile_first, table,
    scale, cap, num_tokens, q_token, q_head, k_block, v_block,
    GROUP: tl.constexpr, KV_HEADS: tl.constexpr, CHUNKS: tl.constexpr,
    ROWS: tl.constexpr, QUERIES: tl.constexpr, HEADS: tl.constexpr, KEYS: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    K_DIM: tl.constexpr, K_TILE: tl.constexpr, V_DIM: tl.constexpr, V_TILE: tl.constexpr, WINDOW: tl.constexpr,
    HAS_CAP: tl.constexpr, HAS_SINKS: tl.constexpr, HAS_SLOPES: tl.constexpr, HAS_SCALES: tl.constexpr,
    FP8: tl.constexpr, IS_SPLIT: tl.constexpr,
):  # fmt: skip
    """One tile: `QUERIES` tokens of a row with `HEADS` of the `GROUP` query heads of a kv head.

    q `[tokens, heads, K_DIM]` in any strides but the last, caches `[blocks, KV_HEADS, BLOCK_SIZE, dim]`; out is dense.
    `scale` makes scores in units of log2(e); with a cap it makes what tanh is taken of, and `cap` does that.
    """
    row, count, position, token = tile_of(tl.program_id(0), tile_row, tile_first, num_new, kv_len, query_start, QUERIES)
    if count <= 0:
        return
    kv_head = tl.program_id(1) // CHUNKS
    line = tl.arange(0, ROWS)
    query = line // HEADS
    head = tl.program_id(1) % CHUNKS * HEADS + line % HEADS  # of those that share the kv head
    is_real = (query < count) & (head < GROUP)
    head = kv_head * GROUP + head
    tokens = token + query
    place = position + query

    k_dim = tl.arange(0, K_TILE)
    q_at = q + tokens.to(tl.int64)[:, None] * q_token + head[:, None] * q_head + k_dim[None, :]
    queries = tl.load(q_at, mask=is_real[:, None] & (k_dim < K_DIM)[None, :], other=0.0)
    if HAS_SCALES:
        scale = scale * tl.load(k_scale + kv_head)
    slope = tl.zeros([ROWS], tl.float32)
    if HAS_SLOPES:
        slope = tl.load(slopes + head, mask=is_real, other=0.0).to(tl.float32) * 1.4426950408889634

    own = table + row * tl.load(columns)
    k_head = k_cache + kv_head.to(tl.int64) * BLOCK_SIZE * K_DIM
    v_head = v_cache + kv_head.to(tl.int64) * BLOCK_SIZE * V_DIM
    first, start, whole, stop = stretch_of(position, count, KEYS, WINDOW, IS_SPLIT)
    top, total = begun(sinks, head, is_real, ROWS, HAS_SINKS, IS_SPLIT)
    acc = tl.zeros([ROWS, V_TILE], tl.float32)
    if WINDOW == 0:
        acc, top, total = _attended(
            queries, place, slope, acc, top, total, k_head, v_head, own, first, start, whole, scale, cap,
            k_block, v_block, KEYS, BLOCK_SIZE, K_DIM, K_TILE, V_DIM, V_TILE, WINDOW, HAS_CAP, HAS_SLOPES, FP8, False,
        )  # fmt: skip
    acc, top, total = _attended(
        queries, place, slope, acc, top, total, k_head, v_head, own, first, whole, stop, scale, cap,
        k_block, v_block, KEYS, BLOCK_SIZE, K_DIM, K_TILE, V_DIM, V_TILE, WINDOW, HAS_CAP, HAS_SLOPES, FP8, True,
    )  # fmt: skip
    if HAS_SCALES:
        acc = acc * tl.load(v_scale + kv_head)
    give(
        acc, top, total, out, part_out, part_top, part_sum, tokens, head, is_real, num_tokens,
        GROUP * KV_HEADS, V_DIM, V_TILE, IS_SPLIT,
    )  # fmt: skip
