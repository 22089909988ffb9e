"""FlashInfer (Ye et al., 2025) where its package is installed. Written from its documentation; not run yet."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jackfield_gpu.token_pages import LibraryAttention, PagesPlan, TokenPages
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import Ops

_WORKSPACE = 128 << 20  # bytes, what its documentation takes


class FlashInferAttention(LibraryAttention):
    """`BatchPrefillWithPagedKVCacheWrapper`, which serves decode rows too. One is planned anew for each step."""

    name = "flashinfer"
    module = "flashinfer"
    block_sizes = (16, 32, 64)

    def __init__(self, need: AttentionNeed, block_size: int, *, device: torch.device, ops: Ops) -> None:
        super().__init__(need, block_size, device=device, ops=ops)
        module: Any = importlib.import_module(self.module)
        workspace = torch.empty(_WORKSPACE, dtype=torch.uint8, device=device)
        self._wrapper = module.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD")

    def prepare(self, plan: PagesPlan) -> None:
        blocks = -(-plan.kv_len // self.block_size)
        held = np.arange(plan.table.shape[1]) < blocks[:, None]
        starts = np.zeros(len(blocks) + 1, np.int32)
        np.cumsum(blocks, out=starts[1:])
        kv = self.need.kv
        self._wrapper.plan(
            torch.from_numpy(plan.starts),
            torch.from_numpy(starts),
            torch.from_numpy(plan.table[held].astype(np.int32)).to(self.device),
            torch.from_numpy((plan.kv_len - 1) % self.block_size + 1),
            self.need.query_heads,
            kv.kv_heads,
            kv.k_dim,
            self.block_size,
            causal=True,
            sm_scale=self.need.scale,
            window_left=self.window,
            logits_soft_cap=self.need.soft_cap,
            q_data_type=torch_dtype(self.need.query_dtype),
            kv_data_type=torch_dtype(kv.dtype),
        )

    def attend(self, q: Tensor, cache: TokenPages, plan: PagesPlan) -> Tensor:
        out: Tensor = self._wrapper.run(q, (cache.k, cache.v))
        return out
