"""A stand-in for torch-xla's ragged kernel: what it documents, in plain torch; what it leaves undefined is NaN.

Signature and checks: `torch_xla.experimental.custom_kernel` of torch-xla 2.9, where `XLA_LIB.define` names the op, and
its `_ragged_paged_attention_runtime_check`. Arithmetic: `ref_ragged_paged_attention` of its
`pallas_kernels/ragged_paged_attention_v2.py`: a hidden key's score has a large negative number added, keys behind a
row's length are replaced, and nothing is said of tokens behind the last row.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor

from jackfield_tpu.ragged_attention import MODULE

MASK = -0.7 * torch.finfo(torch.float32).max


def ragged_paged_attention(
    q: Tensor, kv_pages: Tensor, kv_lens: Tensor, page_indices: Tensor, cu_q_lens: Tensor, num_seqs: Tensor,
    sm_scale: float = 1.0, sliding_window: int | None = None, soft_cap: float | None = None,
    mask_value: float | None = None, k_scale: float | None = None, v_scale: float | None = None,
    use_kernel: bool = True, num_kv_pages_per_block: int | None = None, num_queries_per_block: int | None = None,
    vmem_limit_bytes: int | None = None,
) -> Tensor:  # fmt: skip
    """q `[tokens, heads, dim]`, pages `[pages, page_size, 2 * kv_heads, dim]`, int32 lengths, tables and sums."""
    assert {x.dtype for x in (kv_lens, page_indices, cu_q_lens, num_seqs)} == {torch.int32}
    rows, columns = page_indices.shape
    assert (kv_lens.shape, cu_q_lens.shape, num_seqs.shape) == ((rows,), (rows + 1,), (1,))
    assert q.shape[-1] == kv_pages.shape[-1]
    assert q.shape[-1] % 128 == 0
    assert q.dtype == kv_pages.dtype
    assert 1 <= num_seqs.item() <= rows, "a first page is fetched whatever the number of rows"
    assert (k_scale, v_scale, mask_value) == (None, None, None)
    out = torch.full_like(q, float("nan"))
    for row in range(int(num_seqs)):
        first, last, length = int(cu_q_lens[row]), int(cu_q_lens[row + 1]), int(kv_lens[row])
        assert 0 < last - first <= length <= columns * kv_pages.shape[1]
        pages = kv_pages[page_indices[row].long()].flatten(0, 1)[:length]
        how = {"scale": sm_scale, "window": sliding_window, "soft_cap": soft_cap}
        out[first:last] = _attended(q[first:last], pages[:, 0::2], pages[:, 1::2], **how)
    return out


def _attended(q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None, soft_cap: float | None) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(group, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) * scale
    if soft_cap is not None:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    query, key = torch.arange(len(k) - len(q), len(k))[:, None], torch.arange(len(k))
    hidden = query < key
    if window is not None:
        hidden |= query - window >= key
    weights = (scores + torch.where(hidden, MASK, 0.0)).softmax(-1)  # a NaN stays one
    return torch.einsum("hqk,khd->qhd", weights, v).to(q.dtype)


def install(monkeypatch):
    """Put the stand-in where torch-xla registers its op; any other op of that name space is an AttributeError."""
    monkeypatch.setitem(sys.modules, MODULE, ModuleType(MODULE))
    monkeypatch.setattr(torch.ops, "xla", SimpleNamespace(ragged_paged_attention=ragged_paged_attention))
