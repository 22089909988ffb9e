"""Attention over latents (DeepSeek-V2, 2024): one kv head, whose keys are a latent and a rotated part, whose values are
the latent. It is loaded once for the scores of all heads of a tile and for their answers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from jackfield_attention.triton.float8_kernels import widened
from jackfield_attention.triton.softmax_kernels import begun, capped, give, stretch_of, tile_of, weighed


@triton.jit
def _attended_latents(
    latent_queries, rope_queries, place, acc, top, total, cache, table, first, start, stop, scale, cap, block_stride,
    KEYS: tl.constexpr, BLOCK_SIZE: tl.constexpr, RANK: tl.constexpr, RANK_TILE: tl.constexpr,
    ROPE: tl.constexpr, ROPE_TILE: tl.constexpr, HAS_CAP: tl.constexpr, FP8: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """(acc, top, total) after the keys from `start` to `stop`. Without `MASKED` every query sees all of them."""
    rank = tl.arange(0, RANK_TILE)
    rope = tl.arange(0, ROPE_TILE)
    for at in range(start, stop, KEYS):
        key = at + tl.arange(0, KEYS)
        inside = (key >= first) & (key < stop)
        if MASKED:
            blocks = tl.load(table + key // BLOCK_SIZE, mask=inside, other=0).to(tl.int64)
        else:
            blocks = tl.load(table + key // BLOCK_SIZE).to(tl.int64)
        rows = cache + blocks * block_stride + key % BLOCK_SIZE * (RANK + ROPE)
        latent_at = rows[:, None] + rank[None, :]
        rope_at = rows[:, None] + RANK + rope[None, :]
        if MASKED:
            latents = tl.load(latent_at, mask=inside[:, None] & (rank < RANK)[None, :], other=0)
            ropes = tl.load(rope_at, mask=inside[:, None] & (rope < ROPE)[None, :], other=0)
        elif RANK < RANK_TILE or ROPE < ROPE_TILE:
            latents = tl.load(latent_at, mask=(rank < RANK)[None, :], other=0)
            ropes = tl.load(rope_at, mask=(rope < ROPE)[None, :], other=0)
        else:
            latents = tl.load(latent_at)
            ropes = tl.load(rope_at)
        latents = widened(latents, FP8).to(latent_queries.dtype)
        ropes = widened(ropes, FP8).to(latent_queries.dtype)
        scores = tl.dot(latent_queries, tl.trans(latents), input_precision="ieee")
        scores = tl.dot(rope_queries, tl.trans(ropes), scores, input_precision="ieee") * scale
        if HAS_CAP:
            scores = capped(scores, cap)
        if MASKED:
            scores = tl.where(inside[None, :] & (key[None, :] <= place[:, None]), scores, float("-inf"))
        weights, fade, top, total = weighed(scores, top, total, MASKED)
        acc = tl.dot(weights.to(latents.dtype), latents, acc * fade[:, None], input_precision="ieee")
    return acc, top, total


@triton.jit(do_not_specialize=["num_tokens"])
def latent_kernel(
    q, cache, out, part_out, part_top, part_sum, sinks, scales,
    columns, query_start, num_new, kv_len, tile_row, tile_first, table,
    scale, cap, num_tokens, q_token, q_head, block_stride,
    GROUP: tl.constexpr, ROWS: tl.constexpr, QUERIES: tl.constexpr, HEADS: tl.constexpr, KEYS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, RANK: tl.constexpr, RANK_TILE: tl.constexpr, ROPE: tl.constexpr, ROPE_TILE: tl.constexpr,
    HAS_CAP: tl.constexpr, HAS_SINKS: tl.constexpr, HAS_SCALES: tl.constexpr, FP8: tl.constexpr,
    IS_SPLIT: tl.constexpr,
):  # fmt: skip
    """One tile: `QUERIES` tokens of a row with `HEADS` of the `GROUP` query heads; see `attention_kernel`.

    q `[tokens, GROUP, RANK + ROPE]`, cache `[blocks, 1, BLOCK_SIZE, RANK + ROPE]`, out `[tokens, GROUP, RANK]`.
    """
    row, count, position, token = tile_of(tl.program_id(0), tile_row, tile_first, num_new, kv_len, query_start, QUERIES)
    if count <= 0:
        return
    line = tl.arange(0, ROWS)
    query = line // HEADS
    head = tl.program_id(1) * HEADS + line % HEADS
    is_real = (query < count) & (head < GROUP)
    tokens = token + query
    place = position + query

    rank = tl.arange(0, RANK_TILE)
    rope = tl.arange(0, ROPE_TILE)
    lines = q + tokens.to(tl.int64) * q_token + head * q_head
    latent_queries = tl.load(lines[:, None] + rank[None, :], mask=is_real[:, None] & (rank < RANK)[None, :], other=0.0)
    rope_queries = tl.load(
        lines[:, None] + RANK + rope[None, :], mask=is_real[:, None] & (rope < ROPE)[None, :], other=0.0
    )
    if HAS_SCALES:
        scale = scale * tl.load(scales)
    own = table + row * tl.load(columns)
    first, start, whole, stop = stretch_of(position, count, KEYS, 0, IS_SPLIT)
    top, total = begun(sinks, head, is_real, ROWS, HAS_SINKS, IS_SPLIT)
    acc = tl.zeros([ROWS, RANK_TILE], tl.float32)
    acc, top, total = _attended_latents(
        latent_queries, rope_queries, place, acc, top, total, cache, own, first, start, whole, scale, cap,
        block_stride, KEYS, BLOCK_SIZE, RANK, RANK_TILE, ROPE, ROPE_TILE, HAS_CAP, FP8, False,
    )  # fmt: skip
    acc, top, total = _attended_latents(
        latent_queries, rope_queries, place, acc, top, total, cache, own, first, whole, stop, scale, cap,
        block_stride, KEYS, BLOCK_SIZE, RANK, RANK_TILE, ROPE, ROPE_TILE, HAS_CAP, FP8, True,
    )  # fmt: skip
    if HAS_SCALES:
        acc = acc * tl.load(scales)
    give(
        acc, top, total, out, part_out, part_top, part_sum, tokens, head, is_real, num_tokens,
        GROUP, RANK, RANK_TILE, IS_SPLIT,
    )  # fmt: skip
