"""The definition of attention: whole sequences, no blocks, no batching. Everything fast is compared with this."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionNeed


def dense_attention(
    q: Tensor, k: Tensor, v: Tensor, need: AttentionNeed, sinks: Tensor | None = None, slopes: Tensor | None = None
) -> Tensor:
    """Causal attention of one sequence's last queries to all of its keys, computed in q's dtype.

    q `[queries, heads, k_dim]`, k `[keys, kv_heads, k_dim]`, v `[keys, kv_heads, v_dim]`, sinks and slopes `[heads]`;
    returns `[queries, heads, v_dim]`. The last query stands at the last key (the mask is aligned bottom right), so a
    chunk that continues a prompt passes all keys and only its own queries. Vaswani et al., 2017; heads that share keys:
    Ainslie et al., 2023; sinks: Xiao et al., 2023, as a learnt logit; slopes: Press et al., 2022.
    """
    group = need.query_heads // need.kv.kv_heads
    k, v = (x.to(q.dtype).repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * need.scale
    if need.soft_cap is not None:
        scores = need.soft_cap * torch.tanh(scores / need.soft_cap)
    if slopes is not None:
        behind = torch.arange(k.shape[0] - q.shape[0], k.shape[0])[:, None] - torch.arange(k.shape[0])
        scores = scores - slopes.to(q.dtype)[:, None, None] * behind
    scores = scores.masked_fill(~visible(q.shape[0], k.shape[0], window_of(need.kv)), float("-inf"))
    if sinks is not None:
        column = sinks.to(q.dtype)[:, None, None].expand(-1, q.shape[0], 1)
        scores = torch.cat((scores, column), dim=-1)
    weights = torch.softmax(scores, dim=-1)[..., : k.shape[0]]
    return torch.einsum("hqk,khd->qhd", weights, v)


def visible(queries: int, keys: int, window: int | None) -> Tensor:
    """Which key each query may see, bool `[queries, keys]`; query i stands at position keys - queries + i."""
    query_position = torch.arange(keys - queries, keys)[:, None]
    key_position = torch.arange(keys)[None, :]
    seen = key_position <= query_position
    return seen if window is None else seen & (key_position > query_position - window)
