"""Keys and values into blocks, with the rotary embedding (Su et al., 2021) of keys and queries on the way."""

from __future__ import annotations

import triton
import triton.language as tl

from jackfield_attention.triton.float8_kernels import narrowed
from jackfield_attention.triton.rotary_kernels import turned


@triton.jit
def _put(numbers, to, mask, FP8: tl.constexpr):
    """Store float32 numbers into a cache, of 8-bit floats as bits."""
    if FP8 > 0:
        tl.store(to, narrowed(numbers, FP8), mask=mask)
    else:
        tl.store(to, numbers.to(to.dtype.element_ty), mask=mask)


@triton.jit
def write_kernel(
    q, k, v, q_out, k_cache, v_cache, slots, angles, positions, k_scale, v_scale,
    q_token, q_head, k_token, k_head, v_token, v_head, k_block, v_block, angles_row,
    Q_HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEADS: tl.constexpr, Q_PROGRAMS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, K_DIM: tl.constexpr, K_TILE: tl.constexpr, V_DIM: tl.constexpr, V_TILE: tl.constexpr,
    ROTARY: tl.constexpr, INTERLEAVED: tl.constexpr, HAS_SCALES: tl.constexpr, FP8: tl.constexpr,
):  # fmt: skip
    """`HEADS` heads of one token: the first `Q_PROGRAMS` programs turn queries, the others write keys and values.

    q, k, v `[tokens, heads, dim]` in any strides but the last; q_out is dense; caches are `[blocks, KV_HEADS,
    BLOCK_SIZE, dim]`.
    `V_DIM` 0: values are not written. Tokens of padding have slot 0.
    """
    token = tl.program_id(0).to(tl.int64)
    row = angles
    if ROTARY > 0:
        row = angles + tl.load(positions + token) * angles_row
    if tl.program_id(1) < Q_PROGRAMS:
        q_at = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
        q_real = q_at < Q_HEADS
        queries = turned(q + token * q_token + q_at * q_head, q_real, row, K_DIM, K_TILE, ROTARY, INTERLEAVED)
        q_dim = tl.arange(0, K_TILE)
        q_to = q_out + (token * Q_HEADS + q_at)[:, None] * K_DIM + q_dim[None, :]
        tl.store(q_to, queries.to(q_out.dtype.element_ty), mask=q_real[:, None] & (q_dim < K_DIM)[None, :])
    else:
        head = (tl.program_id(1) - Q_PROGRAMS) * HEADS + tl.arange(0, HEADS)
        is_real = head < KV_HEADS
        slot = tl.load(slots + token)
        block = (slot // BLOCK_SIZE).to(tl.int64)
        place = head * BLOCK_SIZE + slot % BLOCK_SIZE
        k_dim = tl.arange(0, K_TILE)
        keys = turned(k + token * k_token + head * k_head, is_real, row, K_DIM, K_TILE, ROTARY, INTERLEAVED)
        if HAS_SCALES:
            keys = keys / tl.load(k_scale + head, mask=is_real, other=1.0)[:, None]
        k_to = k_cache + block * k_block + place[:, None] * K_DIM + k_dim[None, :]
        _put(keys, k_to, is_real[:, None] & (k_dim < K_DIM)[None, :], FP8)
        if V_DIM > 0:
            v_dim = tl.arange(0, V_TILE)
            values = turned(v + token * v_token + head * v_head, is_real, row, V_DIM, V_TILE, 0, False)
            if HAS_SCALES:
                values = values / tl.load(v_scale + head, mask=is_real, other=1.0)[:, None]
            v_to = v_cache + block * v_block + place[:, None] * V_DIM + v_dim[None, :]
            _put(values, v_to, is_real[:, None] & (v_dim < V_DIM)[None, :], FP8)
