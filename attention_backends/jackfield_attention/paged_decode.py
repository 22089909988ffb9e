"""Rows with one query token, attended to without a padded batch.

Scores are float32 products, so keys are gathered group by group into a scratch that stays in the processor's cache.
Values are read where they lie: the weighted sum of a row's values is an embedding bag over the cache, which reads each
value in its own dtype and touches only the tokens that are listed. Latent values are a part of the keys that were
gathered, shared by all heads, and are multiplied out of the scratch instead.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_attention.cache import Cache, by_head
from jackfield_attention.decode_plan import DecodeGroup, DecodePlan
from jackfield_attention.softmax import capped_, weigh
from jackfield_platforms.attention import AttentionNeed, LayerKV
from jackfield_platforms.kv import Latent


def run_decode(q: Tensor, layer: LayerKV, plan: DecodePlan, need: AttentionNeed, out: Tensor) -> None:
    """Attention of the plan's rows, from q into out; both `[tokens, query_heads, dim]`."""
    cache: Cache = layer.cache
    key_blocks = cache.k.view(-1, cache.k.shape[2] * cache.k.shape[3])  # [num_blocks * kv_heads, block_size * k_dim]
    queries = q.index_select(0, plan.tokens).float().mul_(need.scale)
    # [rows * kv_heads, heads a kv head, k_dim]: heads that share keys are one matrix product, and nothing is repeated
    queries = queries.view(-1, need.query_heads // need.kv.kv_heads, q.shape[-1])
    sinks = None if layer.sinks is None else layer.sinks.float()[:, None]
    latents = queries.new_empty(*queries.shape[:2], need.kv.rank) if isinstance(need.kv, Latent) else None
    for group in plan.groups:
        torch.index_select(key_blocks, 0, group.gather, out=group.raw)
        if group.wide.dtype != group.raw.dtype:
            group.wide.copy_(group.raw)
        if latents is not None:
            _clear_hidden(group)
        torch.bmm(queries[group.queries], group.keys, out=group.scores)
        capped_(group.scores, need.soft_cap)
        if group.hidden is not None:
            group.by_row[..., -group.hidden.shape[-1] :].masked_fill_(group.hidden, float("-inf"))
        weigh(group.by_row, sinks, group.weights)
        if latents is not None:
            values = group.keys[:, : latents.shape[-1]].transpose(1, 2)  # [rows, keys, rank]
            torch.bmm(group.weights, values, out=latents[group.queries])
    if latents is not None:
        out.index_copy_(0, plan.tokens, latents.to(out.dtype))
        return
    weights = plan.weights.to(cache.v.dtype)
    sums = F.embedding_bag(plan.values, by_head(cache.v), plan.bags, mode="sum", per_sample_weights=weights)
    out.index_copy_(0, plan.tokens, sums.view(-1, need.query_heads, sums.shape[-1]).to(out.dtype))


def _clear_hidden(group: DecodeGroup) -> None:
    """Gathered latents that no query sees may be numbers that nobody wrote: a weight of 0 would not hide a NaN."""
    if group.hidden is not None:
        group.keys[..., -group.hidden.shape[-1] :].masked_fill_(group.hidden, 0)
