"""Attention by a static gather: for devices that compile whole programs, and whose buckets pad every row alike.

A row's blocks are brought together by one index_select, as keys and values `[rows, columns * block_size]`; from there
on it is two products and a softmax over a mask made of positions. Nothing is scattered but the step's own tokens into
the cache. Cost follows the bucket, not the rows: the flat form does less where lengths differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from jackfield_attention.cache import Cache, empty_cache
from jackfield_attention.gathered_plan import GatheredPlan, GatheredSizes, gathered_arrays
from jackfield_attention.support import BLOCK_SIZES, KINDS, unsupported
from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket

LOWEST = torch.finfo(torch.float32).min
"""Of a hidden score. No infinity is made: a matrix unit that transposes by products makes a NaN of it."""


class GatheredAttention(AttentionBackend[GatheredPlan]):
    """Every size follows from the bucket, which must have `max_blocks` and rows of one query length."""

    name = "gathered"
    block_sizes = BLOCK_SIZES
    graphs = "any"
    kinds: ClassVar[tuple[type, ...]] = KINDS
    exports = True
    phases = frozenset({"prefill", "decode"})

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        return unsupported(need)

    def allocate(self, num_blocks: int) -> Cache:
        return empty_cache(self.need.kv, num_blocks, self.block_size, self.device)

    def blank(self, bucket: Bucket) -> GatheredPlan:
        return GatheredPlan.blank(GatheredSizes.of_bucket(bucket, self.need, self.block_size), self.device)

    def plan(self, layout: Layout, bucket: Bucket, into: GatheredPlan) -> None:
        into.fill(gathered_arrays(layout, GatheredSizes.of_bucket(bucket, self.need, self.block_size), self.need))

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: GatheredPlan, rope: Rope | None = None
    ) -> Tensor:
        q, k = self.rotate(q, k, rope)
        cache: Cache = layer.cache
        cache.write(plan.written, k.to(cache.k.dtype), v.to(cache.v.dtype))
        position = self._key_positions(plan)
        in_sight = (position >= plan.sight[:, :1]) & (position < plan.sight[:, 1:])
        keys, values = (self._gathered(part, in_sight, plan) for part in (cache.k, cache.v))
        return self._attended(q, keys, values, self._seen(position, plan), layer.sinks).to(q.dtype)

    def token_views(self, cache: Cache) -> Mapping[str, Tensor]:
        return cache.token_views()

    def _key_positions(self, plan: GatheredPlan) -> Tensor:
        """Where each gathered key stands in its row, int32 [rows, keys]."""
        num_keys = plan.blocks.shape[0] // plan.first.shape[0] * self.block_size
        offsets = torch.arange(num_keys, dtype=torch.int32, device=plan.first.device)
        return plan.first[:, None] + offsets

    def _gathered(self, part: Tensor, wanted: Tensor, plan: GatheredPlan) -> Tensor:
        """Keys or values of each row, [rows, kv_heads, keys, dim], 0 where they are not `wanted` [rows, keys].

        Such a place may hold a number that nobody wrote, a NaN among them, and is replaced before any product.
        """
        rows = plan.first.shape[0]
        blocks = part.index_select(0, plan.blocks).unflatten(0, (rows, -1))  # [rows, columns, kv_heads, block, dim]
        return torch.where(wanted[:, None, :, None], blocks.transpose(1, 2).flatten(2, 3), 0)

    def _seen(self, position: Tensor, plan: GatheredPlan) -> Tensor:
        """Which key each query sees, bool [rows, queries, keys]."""
        key, query, window = position[:, None, :], plan.positions[:, :, None], window_of(self.need.kv)
        return key <= query if window is None else (key <= query) & (key > query - window)

    def _attended(self, q: Tensor, keys: Tensor, values: Tensor, seen: Tensor, sinks: Tensor | None) -> Tensor:
        """What each query takes from its row's values, float32 [rows * queries, heads, v_dim]; 0 where it sees none."""
        rows, queries, _ = seen.shape
        kv_heads, group = self.need.kv.kv_heads, self.need.query_heads // self.need.kv.kv_heads
        tiles = q.reshape(rows, queries, kv_heads, group, -1).permute(0, 2, 3, 1, 4).float().mul(self.need.scale)
        scores = torch.matmul(tiles.flatten(2, 3), keys.float().transpose(-1, -2)).unflatten(2, (group, queries))
        if self.need.soft_cap is not None:
            scores = self.need.soft_cap * torch.tanh(scores / self.need.soft_cap)
        seen = seen[:, None, None]
        scores = torch.where(seen, scores, LOWEST)
        top = scores.amax(-1, keepdim=True)
        if sinks is not None:
            sink = sinks.float().view(1, kv_heads, group, 1, 1)
            top = torch.maximum(top, sink)
        weights = torch.where(seen, torch.exp(scores - top), 0.0)
        total = weights.sum(-1, keepdim=True)
        if sinks is not None:
            total = total + torch.exp(sink - top)
        sums = torch.matmul(weights.flatten(2, 3), values.float()).unflatten(2, (group, queries))
        out: Tensor = sums / torch.where(total == 0, 1.0, total)  # [rows, kv_heads, group, queries, v_dim]
        return out.permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)
