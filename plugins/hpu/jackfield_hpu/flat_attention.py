"""Attention for Gaudi in torch: decode rows over a flat list of blocks, prompts padded to one length over a mask.

A decode row's queries reach its blocks, and what those give reaches the row, by a product with a one-hot mapping: the
matrix unit does it, and cost follows the number of blocks. Products are in the queries' dtype, softmax in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor

from jackfield_attention.gathered_plan import GatheredPlan, GatheredSizes, gathered_arrays
from jackfield_attention.support import BLOCK_SIZES, DTYPES, KINDS
from jackfield_attention.window import window_of
from jackfield_hpu.block_softmax import LOWEST, BlockSoftmax, FlatScores, block_softmax
from jackfield_hpu.flat_plan import FlatPlan, FlatSizes, flat_arrays
from jackfield_hpu.generation import generation
from jackfield_hpu.kv_numbers import FLOAT8, encode, scaled
from jackfield_hpu.slot_cache import SlotCache, empty_cache
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.ops import Ops

PREFERRED_BLOCK = 128  # tokens: a row of the matrix unit's operands
HpuPlan = FlatPlan | GatheredPlan


class FlatAttention(AttentionBackend[HpuPlan]):
    """Every shape follows from the bucket: rows of one query length, and a bound on their blocks."""

    name = "hpu-flat"
    block_sizes = (PREFERRED_BLOCK, *(size for size in BLOCK_SIZES if size != PREFERRED_BLOCK))
    graphs = "any"
    kinds = KINDS
    extras = frozenset({"kv_scales"})
    exports = True
    phases = frozenset({"prefill", "decode"})

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        if need.kv.dtype not in (*DTYPES, FLOAT8):
            return f"cache dtype {need.kv.dtype} is none of {', '.join((*DTYPES, FLOAT8))}"
        if need.query_dtype not in DTYPES:
            return f"query dtype {need.query_dtype} is none of {', '.join(DTYPES)}"
        if need.query_heads % need.kv.kv_heads:
            return f"{need.query_heads} query heads are no multiple of {need.kv.kv_heads} kv heads"
        return None

    def __init__(self, need: AttentionNeed, block_size: int, *, device: torch.device, ops: Ops) -> None:
        super().__init__(need, block_size, device=device, ops=ops)
        self._most = generation().most if need.kv.dtype == FLOAT8 else math.inf

    def allocate(self, num_blocks: int) -> SlotCache:
        return empty_cache(self.need.kv, num_blocks, self.block_size, self.device)

    def blank(self, bucket: Bucket) -> HpuPlan:
        if bucket.phase == "decode":
            return FlatPlan.blank(FlatSizes.of_bucket(bucket, self.need, self.block_size), self.device)
        return GatheredPlan.blank(self._prompt_sizes(bucket), self.device)

    def plan(self, layout: Layout, bucket: Bucket, into: HpuPlan) -> None:
        if isinstance(into, FlatPlan):
            sizes = FlatSizes.of_bucket(bucket, self.need, self.block_size)
            into.fill(flat_arrays(layout, sizes, self.need))
        else:
            into.fill(gathered_arrays(layout, self._prompt_sizes(bucket), self.need))

    def run(self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: HpuPlan, rope: Rope | None = None) -> Tensor:
        q, k = self.rotate(q, k, rope)
        cache: SlotCache = layer.cache
        slots = plan.slots if isinstance(plan, FlatPlan) else plan.written
        k, v = (encode(x, cache.k.dtype, scale, self._most) for x, scale in ((k, layer.k_scale), (v, layer.v_scale)))
        cache.write(slots, k, v)
        q = self._real(q, plan.positions)
        if isinstance(plan, FlatPlan):
            return self._decode(q, layer, plan)
        return self._prompt(q, layer, plan)

    def token_views(self, cache: SlotCache) -> Mapping[str, Tensor]:
        return cache.token_views()

    def softmax(self) -> BlockSoftmax:
        """How blocks are weighed."""
        return block_softmax

    def _prompt_sizes(self, bucket: Bucket) -> GatheredSizes:
        """A slot holds all kv heads of a token, so that it is addressed as if there was one."""
        sizes = GatheredSizes.of_bucket(bucket, self.need, self.block_size)
        return msgspec.structs.replace(sizes, kv_heads=1)

    def _real(self, q: Tensor, positions: Tensor) -> Tensor:
        """Queries [rows, queries, heads, dim] times the scale, 0 where a row is padded: there they may be no numbers,
        and a product with a mapping reads all rows.
        """
        q = q.unflatten(0, positions.shape)
        return torch.where((positions >= 0)[..., None, None], q, 0) * self.need.scale

    def _read(self, layer: LayerKV, blocks: Tensor, written: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of blocks [n, block_size, kv_heads, dim] in `dtype`; values that are not `written` are 0,
        since they may be no numbers.
        """
        cache: SlotCache = layer.cache
        raw = cache.keys(blocks)
        v_scale = layer.v_scale if cache.v is not None else layer.k_scale
        keys, values = scaled(raw, layer.k_scale, dtype), scaled(cache.values(blocks, raw), v_scale, dtype)
        return keys, torch.where(written[:, :, None, None], values, 0)

    def _decode(self, q: Tensor, layer: LayerKV, plan: FlatPlan) -> Tensor:
        rows, queries, _, dim = q.shape
        kv_heads, group = self.need.kv.kv_heads, self.need.query_heads // self.need.kv.kv_heads
        mapping = plan.groups[:, None] == torch.arange(rows, dtype=torch.int32, device=q.device)
        seen = self._seen_of_blocks(plan)
        keys, values = self._read(layer, plan.blocks, seen.any(1), q.dtype)
        tiles = (mapping.to(q.dtype) @ q.flatten(1)).view(-1, queries, kv_heads, group, dim).permute(0, 2, 3, 1, 4)
        scores = torch.matmul(tiles.flatten(2, 3), keys.permute(0, 2, 3, 1)).unflatten(2, (group, queries))
        seen = seen[:, None, None]
        flat = FlatScores(
            torch.where(seen, self._capped(scores), 0.0),
            torch.where(seen, 0.0, LOWEST),
            plan.groups,
            mapping.float(),
        )
        weights = self.softmax()(flat, layer.sinks).to(q.dtype)
        sums = torch.matmul(weights.flatten(2, 3), values.transpose(1, 2))  # [entries, kv_heads, group * queries, dim]
        out = (mapping.to(q.dtype).t() @ sums.flatten(1)).view(rows, kv_heads, group, queries, -1)
        return _by_token(out)

    def _seen_of_blocks(self, plan: FlatPlan) -> Tensor:
        """Which key of a block each query of its row sees, bool [entries, queries, block_size]; nobody's: none."""
        rows = plan.positions.index_select(0, plan.groups.clamp(min=0))
        query = torch.where((plan.groups >= 0)[:, None], rows, -1)[:, :, None]
        key = plan.starts[:, None] + torch.arange(self.block_size, dtype=torch.int32, device=query.device)
        return self._in_sight(key[:, None], query)

    def _prompt(self, q: Tensor, layer: LayerKV, plan: GatheredPlan) -> Tensor:
        queries = q.shape[1]
        position = self._key_positions(plan)
        seen = self._in_sight(position[:, None], plan.positions[:, :, None])
        keys, values = self._gathered(layer, position, plan, q.dtype)
        kv_heads, group = self.need.kv.kv_heads, self.need.query_heads // self.need.kv.kv_heads
        tiles = q.unflatten(2, (kv_heads, group)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        scores = torch.matmul(tiles, keys.permute(0, 2, 3, 1)).unflatten(2, (group, queries))
        scores = torch.where(seen[:, None, None], self._capped(scores), LOWEST)
        weights = _weighed(scores, layer.sinks).to(q.dtype)
        out = torch.matmul(weights.flatten(2, 3), values.transpose(1, 2)).unflatten(2, (group, queries))
        return _by_token(out)

    def _key_positions(self, plan: GatheredPlan) -> Tensor:
        """Where each gathered key stands in its row, int32 [rows, keys]."""
        num_keys = plan.blocks.shape[0] // plan.first.shape[0] * self.block_size
        return plan.first[:, None] + torch.arange(num_keys, dtype=torch.int32, device=plan.first.device)

    def _gathered(
        self, layer: LayerKV, position: Tensor, plan: GatheredPlan, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of each row, [rows, keys, kv_heads, dim]."""
        written = self._written(position, plan).view(-1, self.block_size)
        parts = self._read(layer, plan.blocks, written, dtype)
        keys, values = (part.view(*position.shape, *part.shape[2:]) for part in parts)
        return keys, values

    def _written(self, position: Tensor, plan: GatheredPlan) -> Tensor:
        """Which gathered keys some query of the row sees, bool [rows, keys]."""
        return (position >= plan.sight[:, :1]) & (position < plan.sight[:, 1:])

    def _in_sight(self, key: Tensor, query: Tensor) -> Tensor:
        window = window_of(self.need.kv)
        return key <= query if window is None else (key <= query) & (key > query - window)

    def _capped(self, scores: Tensor) -> Tensor:
        scores = scores.float()
        return scores if self.need.soft_cap is None else self.need.soft_cap * torch.tanh(scores / self.need.soft_cap)


def _by_token(out: Tensor) -> Tensor:
    """Answers [rows, kv_heads, group, queries, dim] as [rows * queries, heads, dim]."""
    return out.permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)


def _weighed(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Softmax over keys, float32 [rows, kv_heads, group, queries, keys]; a query that sees none weighs all alike."""
    if sinks is None:
        return torch.softmax(scores, -1)
    sink = sinks.float().view(1, *scores.shape[1:3], 1, 1)
    top = torch.maximum(scores.amax(-1, keepdim=True), sink)
    weights = torch.exp(scores - top)
    return weights / (weights.sum(-1, keepdim=True) + torch.exp(sink - top))
