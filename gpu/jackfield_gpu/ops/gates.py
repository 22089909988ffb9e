"""Gated activations in Triton; shapes and meaning as in `jackfield_platforms.reference`."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_gpu.ops.gate_kernels import silu_mul_kernel
from jackfield_gpu.ops.row_views import as_rows
from jackfield_gpu.ops.tiles import GATE_BLOCK


def silu_mul(gate_up: Tensor) -> Tensor:
    rows, width = as_rows(gate_up), gate_up.shape[-1] // 2
    count = rows.shape[0] * rows.shape[1]
    out = torch.empty(*gate_up.shape[:-1], width, dtype=gate_up.dtype, device=gate_up.device)
    if count and width:
        silu_mul_kernel[(count, -(-width // GATE_BLOCK))](
            rows, out, width, rows.stride(0), rows.stride(1), rows.shape[1], BLOCK=GATE_BLOCK, num_warps=4
        )
    return out
