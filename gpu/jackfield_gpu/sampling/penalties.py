"""Penalties in one launch; shapes and meaning as in `jackfield_platforms.reference`."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_gpu.sampling.penalty_kernels import penalize_kernel

BLOCK = 1024


def penalize(logits: Tensor, seen: Tensor, places: Tensor, factors: Tensor) -> Tensor:
    logits = logits if logits.stride(-1) == 1 else logits.contiguous()
    rows, width = logits.shape
    out = torch.empty(rows, width, dtype=torch.float32, device=logits.device)
    if rows:
        penalize_kernel[(rows, -(-width // BLOCK))](
            logits, seen, places.contiguous(), factors.contiguous(), out,
            width, logits.stride(0), seen.stride(0), BLOCK=BLOCK, num_warps=4,
        )  # fmt: skip
    return out
