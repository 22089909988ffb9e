"""The lowest logit that top-k and top-p keep, in one launch; as in `jackfield_platforms.reference`."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_gpu.sampling.threshold_kernels import threshold_kernel

ROUNDS, CUTS, BLOCK = 10, 16, 1024


def sampling_threshold(logits: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    logits = logits if logits.stride(-1) == 1 else logits.contiguous()
    rows, width = logits.shape
    out = torch.empty(rows, 1, dtype=torch.float32, device=logits.device)
    if rows:
        threshold_kernel[(rows,)](
            logits, top_k.contiguous(), top_p.contiguous(), out, width, logits.stride(0),
            ROUNDS=ROUNDS, CUTS=CUTS, BLOCK=BLOCK, num_warps=8,
        )  # fmt: skip
    return out
