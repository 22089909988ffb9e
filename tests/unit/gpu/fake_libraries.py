"""Stand-ins for libraries of attention: arguments as their documentation says, sums in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def attended(q: Tensor, k: Tensor, v: Tensor, scale: float, *, window: int, soft_cap: float) -> Tensor:
    """q `[queries, heads, dim]` of a sequence's last tokens against its k and v `[keys, kv_heads, dim]`, causal."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(group, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) * scale
    if soft_cap:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    behind = torch.arange(len(k) - len(q), len(k))[:, None] - torch.arange(len(k))
    seen = (behind >= 0) & (behind <= window) if window >= 0 else behind >= 0
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    # what lies behind a window may be anything, and is not to be multiplied by 0
    return torch.einsum("hqk,khd->qhd", weights, v.nan_to_num()).to(q.dtype)


def rows_attended(q: Tensor, starts: Tensor, keys_of: Callable[[int], tuple[Tensor, Tensor]], **how: Any) -> Tensor:
    out = torch.full_like(q, float("nan"))
    for row, (first, last) in enumerate(zip(starts.tolist(), starts.tolist()[1:], strict=False)):
        if last > first:
            out[first:last] = attended(q[first:last], *keys_of(row), **how)
    return out


def flash_attn_varlen_func(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int, max_seqlen_k: int,
    *, softmax_scale: float, causal: bool, window_size: tuple[int, int], softcap: float, block_table: Tensor,
) -> Tensor:  # fmt: skip
    """FlashAttention 2: pages `[blocks, 256 or more, heads, dim]`, int32 tables and sums of lengths."""
    assert causal
    assert k.shape[1] % 256 == 0
    assert {x.dtype for x in (cu_seqlens_q, cu_seqlens_k, block_table)} == {torch.int32}
    lengths, new = cu_seqlens_k.diff().tolist(), cu_seqlens_q.diff().tolist()
    assert (max(lengths), max(new)) == (max_seqlen_k, max_seqlen_q)

    def keys_of(row: int) -> tuple[Tensor, Tensor]:
        blocks = block_table[row, : -(-lengths[row] // k.shape[1])]
        return k[blocks].flatten(0, 1)[: lengths[row]], v[blocks].flatten(0, 1)[: lengths[row]]

    how = {"scale": softmax_scale, "window": window_size[0], "soft_cap": softcap}
    return rows_attended(q, cu_seqlens_q, keys_of, **how)


class BatchPrefillWithPagedKVCacheWrapper:
    """FlashInfer: a step is planned, then run; `NHD` pages, and of each row its pages and the length of the last."""

    def __init__(self, workspace: Tensor, layout: str) -> None:
        assert (workspace.dtype, layout) == (torch.uint8, "NHD")

    def plan(
        self, qo_indptr: Tensor, paged_kv_indptr: Tensor, paged_kv_indices: Tensor, paged_kv_last_page_len: Tensor,
        num_qo_heads: int, num_kv_heads: int, head_dim_qk: int, page_size: int, *, causal: bool, sm_scale: float,
        window_left: int, logits_soft_cap: float | None, q_data_type: torch.dtype, kv_data_type: torch.dtype,
    ) -> None:  # fmt: skip
        assert causal
        self.starts, self.pages, self.indices = qo_indptr, paged_kv_indptr.tolist(), paged_kv_indices
        self.last, self.size = paged_kv_last_page_len.tolist(), page_size
        self.shapes = (num_qo_heads, num_kv_heads, head_dim_qk, q_data_type, kv_data_type)
        self.how = {"scale": sm_scale, "window": window_left, "soft_cap": logits_soft_cap or 0.0}

    def run(self, q: Tensor, paged_kv_cache: tuple[Tensor, Tensor]) -> Tensor:
        k, v = paged_kv_cache
        assert self.shapes == (q.shape[1], k.shape[2], k.shape[3], q.dtype, k.dtype)

        def keys_of(row: int) -> tuple[Tensor, Tensor]:
            first, last = self.pages[row : row + 2]
            length = (last - first - 1) * self.size + self.last[row]
            blocks = self.indices[first:last]
            return k[blocks].flatten(0, 1)[:length], v[blocks].flatten(0, 1)[:length]

        return rows_attended(q, self.starts, keys_of, **self.how)


def mha_batch_prefill_func(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, kv_indptr: Tensor, kv_page_indices: Tensor,
    max_seqlen_q: int, max_seqlen_k: int, *, softmax_scale: float, causal: bool, window_size: tuple[int, int],
) -> Tensor:  # fmt: skip
    """AITER over pages of one token: k and v `[tokens, heads, dim]`."""
    assert causal
    assert k.dim() == 3
    assert {x.dtype for x in (cu_seqlens_q, kv_indptr, kv_page_indices)} == {torch.int32}
    assert (int(kv_indptr.diff().max()), int(cu_seqlens_q.diff().max())) == (max_seqlen_k, max_seqlen_q)

    def keys_of(row: int) -> tuple[Tensor, Tensor]:
        held = kv_page_indices[kv_indptr[row] : kv_indptr[row + 1]]
        return k[held], v[held]

    return rows_attended(q, cu_seqlens_q, keys_of, scale=softmax_scale, window=window_size[0], soft_cap=0.0)


LIBRARIES: dict[str, Any] = {
    "flash_attn": SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func),
    "flashinfer": SimpleNamespace(BatchPrefillWithPagedKVCacheWrapper=BatchPrefillWithPagedKVCacheWrapper),
    "aiter": SimpleNamespace(mha_batch_prefill_func=mha_batch_prefill_func),
}
