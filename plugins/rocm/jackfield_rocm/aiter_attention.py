"""AITER, AMD's library of kernels, where it is installed. Written from its sources' interface; not run yet."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from torch import Tensor

from jackfield_gpu.token_pages import LibraryAttention, PagesPlan, TokenPages
from jackfield_platforms.attention import AttentionNeed


class AiterAttention(LibraryAttention):
    """`mha_batch_prefill_func` over single tokens, which serves decode rows too; of a page it is told every token.

    Pages of several tokens have another layout there in each release; a page of one token has had the same in all.
    """

    name = "aiter"
    module = "aiter"
    block_sizes = (16, 32, 64)

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        if need.soft_cap is not None:
            return "is not asked for soft caps, which some of its kernels leave out"
        return super().rejects(need)

    def prepare(self, plan: PagesPlan) -> None:
        offsets = np.arange(self.block_size, dtype=np.int32)
        tokens = (plan.table[:, :, None] * self.block_size + offsets).reshape(len(plan.kv_len), -1)
        held = np.arange(tokens.shape[1]) < plan.kv_len[:, None]
        starts = np.zeros(len(plan.kv_len) + 1, np.int32)
        np.cumsum(plan.kv_len, out=starts[1:])
        plan.call = {
            "cu_seqlens_q": self._put(plan.starts),
            "kv_indptr": self._put(starts),
            "kv_page_indices": self._put(tokens[held].astype(np.int32)),
            "max_seqlen_q": int(np.diff(plan.starts).max(initial=0)),
            "max_seqlen_k": int(plan.kv_len.max(initial=0)),
        }

    def attend(self, q: Tensor, cache: TokenPages, plan: PagesPlan) -> Tensor:
        function: Any = importlib.import_module(self.module).mha_batch_prefill_func
        out: Tensor = function(
            q.contiguous(),
            cache.k.flatten(0, 1),
            cache.v.flatten(0, 1),
            **plan.call,
            softmax_scale=self.need.scale,
            causal=True,
            window_size=(self.window, 0 if self.window >= 0 else -1),
        )
        return out
