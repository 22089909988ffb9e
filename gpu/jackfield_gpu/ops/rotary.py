"""Rotary embedding in Triton; shapes and meaning as in `jackfield_platforms.reference`."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_attention.triton.tiles import power_of_two
from jackfield_gpu.ops.rotary_kernels import rotary_kernel

HEADS = 8
"""Heads of one token that a program turns."""


def rotary(q: Tensor, k: Tensor, table: Tensor, positions: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    q, k = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k))
    q_out, k_out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    tokens, q_heads, dim = q.shape
    q_programs = -(-q_heads // HEADS)
    if tokens:
        rotary_kernel[(tokens, q_programs - (-k.shape[1] // HEADS))](
            q, k, table.contiguous(), positions.contiguous(), q_out, k_out,
            q.stride(0), q.stride(1), k.stride(0), k.stride(1),
            Q_HEADS=q_heads, K_HEADS=k.shape[1], HEADS=HEADS, Q_PROGRAMS=q_programs,
            DIM=dim, TILE=power_of_two(dim), ROTARY=table.shape[-1], INTERLEAVED=interleaved, num_warps=4,
        )  # fmt: skip
    return q_out, k_out
