"""Attention over a flat list of blocks, at static shapes: portable to devices that compile whole programs.

Each entry pairs one block with one tile of queries; its scores are a small matrix product, and the softmax over a
tile's entries is a maximum and two sums scattered to tiles. Cost follows the number of entries, the sum of blocks over
rows, and `run` never looks at a tensor's value.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor

from jackfield_attention.cache import Cache, empty_cache
from jackfield_attention.flat_plan import FlatPlan, FlatSizes, Tiles, flat_arrays
from jackfield_attention.support import BLOCK_SIZES, KINDS, unsupported
from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket


class FlatBlockAttention(AttentionBackend[FlatPlan]):
    """The flat block-list form. A bucket with `max_blocks` gives static shapes; without it, plans fit each step."""

    name = "flat-blocks"
    block_sizes = BLOCK_SIZES
    graphs = "any"
    kinds = KINDS
    exports = True
    phases = frozenset({"prefill", "decode", "mixed"})

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        return unsupported(need)

    def allocate(self, num_blocks: int) -> Cache:
        return empty_cache(self.need.kv, num_blocks, self.block_size, self.device)

    def blank(self, bucket: Bucket) -> FlatPlan:
        return FlatPlan.blank(FlatSizes.of_bucket(bucket, self.need, self.block_size), self.device)

    def plan(self, layout: Layout, bucket: Bucket, into: FlatPlan) -> None:
        sizes = FlatSizes.of_bucket(bucket, self.need, self.block_size)
        tiles = Tiles.of(layout, sizes.tile, self.need, self.block_size)
        if bucket.max_blocks:
            into.fill(flat_arrays(layout, tiles, sizes))
        else:
            sizes = msgspec.structs.replace(sizes, tiles=max(tiles.row.size, 1), entries=int(tiles.blocks.sum()))
            into.replace(flat_arrays(layout, tiles, sizes))

    def run(self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: FlatPlan, rope: Rope | None = None) -> Tensor:
        q, k = self.rotate(q, k, rope)
        cache: Cache = layer.cache
        cache.write(plan.written, k.to(cache.k.dtype), v.to(cache.v.dtype))
        seen = self._seen(plan)
        scores = self._scores(q, cache.k, plan)
        scores = torch.where(seen[:, None, :, None, :], scores, float("-inf"))
        sums, total = self._softmax_sums(scores, cache.v, seen, layer.sinks, plan)
        out = sums / torch.where(total == 0, 1, total)[..., None]  # [tiles, kv_heads, tile, group, v_dim]
        out = out.transpose(1, 2).reshape(-1, self.need.query_heads, v.shape[-1])
        return out.index_select(0, plan.token_places).to(q.dtype)

    def token_views(self, cache: Cache) -> Mapping[str, Tensor]:
        return cache.token_views()

    def _seen(self, plan: FlatPlan) -> Tensor:
        """Which key of an entry's block each query of its tile sees, bool [entries, tile, block_size]."""
        offsets = torch.arange(self.block_size, dtype=torch.int32, device=plan.positions.device)
        key = (plan.positions[:, None] + offsets)[:, None, :]
        query = plan.tile_positions.index_select(0, plan.tiles)[:, :, None]
        window = window_of(self.need.kv)
        return key <= query if window is None else (key <= query) & (key > query - window)

    def _scores(self, q: Tensor, keys: Tensor, plan: FlatPlan) -> Tensor:
        """Scaled and capped scores of every entry, float32 [entries, kv_heads, tile, group, block_size]."""
        num_tiles, tile = plan.tile_tokens.shape
        kv_heads, group = self.need.kv.kv_heads, self.need.query_heads // self.need.kv.kv_heads
        tiles = q.index_select(0, plan.tile_tokens.flatten()).view(num_tiles, tile, kv_heads, group * q.shape[-1])
        tiles = tiles.transpose(1, 2).float().mul(self.need.scale).reshape(num_tiles, kv_heads, tile * group, -1)
        blocks = keys.index_select(0, plan.blocks).float()  # [entries, kv_heads, block_size, k_dim]
        scores = torch.matmul(tiles.index_select(0, plan.tiles), blocks.transpose(-1, -2))
        if self.need.soft_cap is not None:
            scores = self.need.soft_cap * torch.tanh(scores / self.need.soft_cap)
        return scores.view(-1, kv_heads, tile, group, self.block_size)

    def _softmax_sums(
        self, scores: Tensor, values: Tensor, seen: Tensor, sinks: Tensor | None, plan: FlatPlan
    ) -> tuple[Tensor, Tensor]:
        """Weighted sums of values and sums of weights of each tile, both relative to the tile's highest score."""
        _, kv_heads, tile, group, _ = scores.shape
        shape = (plan.tile_tokens.shape[0], kv_heads, tile, group)
        if sinks is None:
            floor = scores.new_full(shape, float("-inf"))
        else:
            floor = sinks.float().view(1, kv_heads, 1, group).expand(shape)
        owner = plan.tiles[:, None, None, None].expand(-1, *shape[1:])
        top = floor.scatter_reduce(0, owner, scores.amax(-1), "amax")
        top = torch.where(top == float("-inf"), 0, top)  # a tile place without a query
        weights = torch.exp(scores - top.index_select(0, plan.tiles)[..., None])
        total = torch.zeros_like(top).index_add(0, plan.tiles, weights.sum(-1))
        if sinks is not None:
            total = total + torch.exp(floor - top)
        written = seen.any(1)[:, None, :, None]  # what no query sees may be a number that nobody wrote
        blocks = torch.where(written, values.index_select(0, plan.blocks).float(), 0)
        sums = (weights.flatten(2, 3) @ blocks).unflatten(2, (tile, group))
        return sums.new_zeros(*shape, sums.shape[-1]).index_add(0, plan.tiles, sums), total
