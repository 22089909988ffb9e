"""Attention backends, each wrong in one way."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import msgspec
import numpy as np
import torch

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_attention.flat_plan import FlatSizes, Tiles, flat_arrays
from jackfield_platforms.attention import Rope

replace = msgspec.structs.replace


def with_need(self: Any, **changes: Any) -> Any:
    """The backend as if it had been asked for something else."""
    other = copy.copy(self)
    other.need = replace(self.need, **changes)
    return other


class MaskOffByOne(FlatBlockAttention):
    def _seen(self, plan):
        return super()._seen(dataclasses.replace(plan, tile_positions=plan.tile_positions + 1))


class WindowOffByOne(FlatBlockAttention):
    def _seen(self, plan):
        kv = self.need.kv
        wider = replace(kv, window=kv.window + 1) if hasattr(kv, "window") else kv
        return FlatBlockAttention._seen(with_need(self, kv=wider), plan)


class ForgetsSoftCap(FlatBlockAttention):
    def _scores(self, q, keys, plan):
        return FlatBlockAttention._scores(with_need(self, soft_cap=None), q, keys, plan)


class TakesUsualScale(FlatBlockAttention):
    def _scores(self, q, keys, plan):
        return FlatBlockAttention._scores(with_need(self, scale=q.shape[-1] ** -0.5), q, keys, plan)


class DropsSinks(FlatBlockAttention):
    def run(self, q, k, v, layer, plan, rope=None):
        return super().run(q, k, v, dataclasses.replace(layer, sinks=None), plan, rope)


class MultipliesHiddenValuesByZero(FlatBlockAttention):
    def _softmax_sums(self, scores, values, seen, sinks, plan):
        return super()._softmax_sums(scores, values, torch.ones_like(seen), sinks, plan)


class ReadsTheNullBlock(FlatBlockAttention):
    """The first block of every row is taken for the null block."""

    def plan(self, layout, bucket, into):
        super().plan(layout, bucket, into)
        into.blocks[into.positions == 0] = 0


class WritesPaddingIntoBlockOne(FlatBlockAttention):
    def plan(self, layout, bucket, into):
        super().plan(layout, bucket, into)
        rows = self.need.kv.kv_heads * self.block_size
        into.written[into.written < rows] += rows


class WritesPaddingIntoTheLastBlock(FlatBlockAttention):
    """Slot -1, as an index, is the last one."""

    def allocate(self, num_blocks):
        self.last = (num_blocks - 1) * self.need.kv.kv_heads * self.block_size
        return super().allocate(num_blocks)

    def plan(self, layout, bucket, into):
        super().plan(layout, bucket, into)
        into.written[into.written < self.need.kv.kv_heads * self.block_size] += self.last


class ClearsTheNextBlock(FlatBlockAttention):
    def run(self, q, k, v, layer, plan, rope=None):
        out = super().run(q, k, v, layer, plan, rope)
        blocks = (plan.written // (self.need.kv.kv_heads * self.block_size)).unique()
        layer.cache.v[(blocks + 1).clamp(max=len(layer.cache.v) - 1)] = 0
        return out


class LeavesKeysUnrotated(FlatBlockAttention):
    def rotate(self, q, k, rope):
        return super().rotate(q, k, rope)[0], k


class PairsNeighboursAlways(FlatBlockAttention):
    def rotate(self, q, k, rope):
        return super().rotate(q, k, rope and Rope(rope.table, rope.positions, interleaved=True))


class PairsHalvesAlways(FlatBlockAttention):
    def rotate(self, q, k, rope):
        return super().rotate(q, k, rope and Rope(rope.table, rope.positions, interleaved=False))


class ForgetsWhatIsNotRotated(FlatBlockAttention):
    def rotate(self, q, k, rope):
        q, k = super().rotate(q, k, rope)
        if rope is not None:
            k = k.clone()
            k[..., rope.table.shape[1] :] = 0
        return q, k


class SharesHeadsInTurn(FlatBlockAttention):
    """Query head h reads kv head h % kv_heads."""

    def run(self, q, k, v, layer, plan, rope=None):
        kv_heads = self.need.kv.kv_heads
        order = torch.arange(self.need.query_heads).view(-1, kv_heads).T.flatten()
        out = super().run(q[:, order], k, v, layer, plan, rope)
        return torch.empty_like(out).index_copy_(1, order, out)


class ForgetsEarlierChunks(FlatBlockAttention):
    """Queries of a longer row see this step's keys alone."""

    def plan(self, layout, bucket, into):
        super().plan(layout, bucket, into)
        first = torch.zeros(bucket.num_tokens, dtype=torch.int32)  # key that each token sees
        for start, new, length in zip(layout.query_start, layout.num_new, layout.kv_len, strict=False):
            first[start : start + new] = int(length - new) if new > 1 else 0
        self.first = first[into.tile_tokens[:, 0]]

    def _seen(self, plan):
        keys = plan.positions[:, None] + torch.arange(self.block_size, dtype=torch.int32)
        return super()._seen(plan) & (keys >= self.first[plan.tiles][:, None])[:, None, :]


class MiscountsDecodeRowsBesidePrompts(FlatBlockAttention):
    """In a step of both kinds, rows of one token see one key less."""

    def plan(self, layout, bucket, into):
        super().plan(layout, bucket, into)
        if (layout.num_new > 1).any():
            alone = torch.from_numpy(layout.query_start[:-1][layout.num_new == 1]).long()
            into.tile_positions[torch.isin(into.tile_tokens, alone) & (into.tile_positions > 0)] -= 1


class PacksPaddedRows(FlatBlockAttention):
    """Takes rows for packed though the bucket pads them."""

    def plan(self, layout, bucket, into):
        start = np.concatenate(([0], np.cumsum(layout.num_new))).astype(np.int32)
        super().plan(replace(layout, query_start=start), bucket, into)


class MakesItsPlanAnew(FlatBlockAttention):
    def plan(self, layout, bucket, into):
        sizes = FlatSizes.of_bucket(bucket, self.need, self.block_size)
        tiles = Tiles.of(layout, sizes.tile, self.need, self.block_size)
        sizes = replace(sizes, tiles=max(tiles.row.size, 1), entries=int(tiles.blocks.sum()))
        into.replace(flat_arrays(layout, tiles, sizes))


class AcceptsWhatItCannotRun(FlatBlockAttention):
    def run(self, q, k, v, layer, plan, rope=None):
        if self.need.soft_cap is not None:
            raise NotImplementedError("soft cap")
        return super().run(q, k, v, layer, plan, rope)


class RejectsWithoutAReason(FlatBlockAttention):
    @classmethod
    def rejects(cls, need):
        return "" if need.kv.k_dim > 100 else None


class FailsWhenAsked(FlatBlockAttention):
    @classmethod
    def rejects(cls, need):
        raise RuntimeError("the driver is gone")


class ServesSmallHeadsAlone(FlatBlockAttention):
    @classmethod
    def rejects(cls, need):
        return "heads are wider than 32" if need.kv.k_dim > 32 else None


class UnderstatesItsBlocks(FlatBlockAttention):
    @classmethod
    def block_bytes(cls, spec, block_size):
        return super().block_bytes(spec, block_size) // 2


class LooksAtAValue(FlatBlockAttention):
    """Decides on the host by what a device tensor holds."""

    def run(self, q, k, v, layer, plan, rope=None):
        if plan.positions.min().item() < 0:
            raise AssertionError("never")
        return super().run(q, k, v, layer, plan, rope)


class SubtractsNoMaximum(FlatBlockAttention):
    """Right as long as no exponential overflows."""

    def _softmax_sums(self, scores, values, seen, sinks, plan):
        shifted = scores.new_zeros(plan.tile_tokens.shape[0], *scores.shape[1:4])
        weights = torch.exp(scores)
        total = shifted.index_add(0, plan.tiles, weights.sum(-1))
        if sinks is not None:
            total = total + torch.exp(sinks).view(1, scores.shape[1], 1, -1)
        blocks = torch.where(seen.any(1)[:, None, :, None], values.index_select(0, plan.blocks).float(), 0)
        sums = (weights.flatten(2, 3) @ blocks).unflatten(2, scores.shape[2:4])
        return sums.new_zeros(*shifted.shape, sums.shape[-1]).index_add(0, plan.tiles, sums), total


class HasRoomForMostSteps(FlatBlockAttention):
    """Counts a tile a row, and forgets that a long row needs several."""

    def plan(self, layout, bucket, into):
        sizes = FlatSizes.of_bucket(bucket, self.need, self.block_size)
        if Tiles.of(layout, sizes.tile, self.need, self.block_size).row.size > bucket.num_rows > 1:
            raise ValueError("the bucket has no room")
        super().plan(layout, bucket, into)
