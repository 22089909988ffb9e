"""FlashAttention 2 (Dao, 2023) where its package is installed. Written from its documentation; not run yet."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from torch import Tensor

from jackfield_gpu.token_pages import LibraryAttention, PagesPlan, TokenPages


class FlashAttention(LibraryAttention):
    """`flash_attn_varlen_func` over pages of 256 tokens, the least that it takes. Masks end at the last token."""

    name = "flash-attn"
    module = "flash_attn"
    block_sizes = (256, 512)

    def prepare(self, plan: PagesPlan) -> None:
        kv_starts = np.zeros(len(plan.kv_len) + 1, np.int32)
        np.cumsum(plan.kv_len, out=kv_starts[1:])
        plan.call = {
            "cu_seqlens_q": self._put(plan.starts),
            "cu_seqlens_k": self._put(kv_starts),
            "max_seqlen_q": int(np.diff(plan.starts).max(initial=0)),
            "max_seqlen_k": int(plan.kv_len.max(initial=0)),
            "block_table": self._put(plan.table),
        }

    def attend(self, q: Tensor, cache: TokenPages, plan: PagesPlan) -> Tensor:
        function: Any = importlib.import_module(self.module).flash_attn_varlen_func
        out: Tensor = function(
            q,
            cache.k,
            cache.v,
            softmax_scale=self.need.scale,
            causal=True,
            window_size=(self.window, 0 if self.window >= 0 else -1),
            softcap=self.need.soft_cap or 0.0,
            **plan.call,
        )
        return out
