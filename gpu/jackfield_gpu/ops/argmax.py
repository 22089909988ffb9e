"""Greedy sampling in Triton; shapes and meaning as in `jackfield_platforms.reference`."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_gpu.ops.argmax_kernels import argmax_parts_kernel, argmax_rows_kernel
from jackfield_gpu.ops.tiles import ARGMAX_BLOCK, ARGMAX_PARTS


def argmax(logits: Tensor) -> Tensor:
    rows = logits if logits.stride(-1) == 1 else logits.contiguous()
    count, width = rows.shape
    out = torch.empty(count, dtype=torch.int64, device=logits.device)
    if count:
        # a part is whole blocks; those of a short row hold nothing, and lose
        part = -(-width // (ARGMAX_PARTS * ARGMAX_BLOCK)) * ARGMAX_BLOCK
        tops = torch.empty(count, ARGMAX_PARTS, dtype=torch.float32, device=logits.device)
        places = torch.empty(count, ARGMAX_PARTS, dtype=torch.int32, device=logits.device)
        argmax_parts_kernel[(count, ARGMAX_PARTS)](
            rows, tops, places, width, rows.stride(0), part, BLOCK=ARGMAX_BLOCK, num_warps=8
        )
        argmax_rows_kernel[(count,)](tops, places, out, PARTS=ARGMAX_PARTS, num_warps=1)
    return out
