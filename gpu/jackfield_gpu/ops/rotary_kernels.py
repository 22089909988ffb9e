"""Rotary embedding of queries and keys in one launch."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from jackfield_attention.triton.rotary_kernels import turned


@triton.jit
def _turn(
    x, out, token, x_row, x_head, angles, first, COUNT: tl.constexpr,
    HEADS: tl.constexpr, DIM: tl.constexpr, TILE: tl.constexpr, ROTARY: tl.constexpr, INTERLEAVED: tl.constexpr,
):  # fmt: skip
    """`HEADS` of the `COUNT` heads of a token, from the `first` on."""
    head = first + tl.arange(0, HEADS)
    is_real = head < COUNT
    numbers = turned(x + token * x_row + head * x_head, is_real, angles, DIM, TILE, ROTARY, INTERLEAVED)
    element = tl.arange(0, TILE)
    to = out + (token * COUNT + head)[:, None] * DIM + element[None, :]
    tl.store(to, numbers.to(out.dtype.element_ty), mask=is_real[:, None] & (element < DIM)[None, :])


@triton.jit
def rotary_kernel(
    q, k, table, positions, q_out, k_out, q_row, q_head, k_row, k_head,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, HEADS: tl.constexpr, Q_PROGRAMS: tl.constexpr,
    DIM: tl.constexpr, TILE: tl.constexpr, ROTARY: tl.constexpr, INTERLEAVED: tl.constexpr,
):  # fmt: skip
    """`HEADS` heads of one token: the first `Q_PROGRAMS` programs turn queries, the others keys.

    Outputs are dense; rows of the table are `ROTARY / 2` cosines and as many sines.
    """
    token = tl.program_id(0).to(tl.int64)
    angles = table + tl.load(positions + token) * ROTARY
    if tl.program_id(1) < Q_PROGRAMS:
        first = tl.program_id(1) * HEADS
        _turn(q, q_out, token, q_row, q_head, angles, first, Q_HEADS, HEADS, DIM, TILE, ROTARY, INTERLEAVED)
    else:
        first = (tl.program_id(1) - Q_PROGRAMS) * HEADS
        _turn(k, k_out, token, k_row, k_head, angles, first, K_HEADS, HEADS, DIM, TILE, ROTARY, INTERLEAVED)
