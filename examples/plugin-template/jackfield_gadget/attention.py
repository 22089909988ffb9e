"""Paged attention of static shapes: rows are padded to one length, their blocks to one number."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Paged


@dataclass
class GadgetPlan:
    """What `run` reads; in a bucket with bounds every shape follows from the bucket."""

    slots: Tensor  # int64 [tokens]: where each token's key and value go; 0, in the null block, for padding
    places: Tensor  # int64 [rows, queries]: which token is query i of a row; 0 where there is none
    positions: Tensor  # int64 [rows, queries]: that token's position in its row; -1 where there is none
    back: Tensor  # int64 [tokens]: where each token's output lies among rows * queries
    blocks: Tensor  # int64 [rows, blocks]: the blocks of each row


class GadgetAttention(AttentionBackend[GadgetPlan]):
    """Gathers each row's blocks and calls torch's own attention. Cost: rows * blocks, so small buckets matter."""

    name = "gadget"
    block_sizes = (16, 32)
    graphs = "any"
    exports = True
    phases = frozenset({"prefill", "decode", "mixed"})

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        if not isinstance(need.kv, Paged):
            return f"gadgets keep every token, not {type(need.kv).__name__} caches"
        if need.soft_cap is not None or need.sinks:
            return "gadgets know neither soft caps nor sinks"
        return None

    def allocate(self, num_blocks: int) -> tuple[Tensor, Tensor]:
        kv = self.need.kv
        slots, dtype = num_blocks * self.block_size, getattr(torch, kv.dtype)
        make = lambda dim: torch.empty(slots, kv.kv_heads, dim, dtype=dtype, device=self.device)  # noqa: E731
        return make(kv.k_dim), make(kv.v_dim)

    def token_views(self, cache: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: x.unflatten(0, (-1, self.block_size)) for name, x in zip("kv", cache, strict=True)}

    def blank(self, bucket: Bucket) -> GadgetPlan:
        queries = bucket.query_len or bucket.num_tokens
        shapes = (bucket.num_tokens,), *[(bucket.num_rows, queries)] * 2, (bucket.num_tokens,)
        blocks = (bucket.num_rows, bucket.max_blocks)
        return GadgetPlan(*(torch.zeros(s, dtype=torch.int64, device=self.device) for s in (*shapes, blocks)))

    def plan(self, layout: Layout, bucket: Bucket, into: GadgetPlan) -> None:
        counts = layout.num_new.astype(np.int64)
        row = np.repeat(np.arange(counts.size), counts)
        within = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)
        token = layout.query_start[row] + within
        position = (layout.kv_len - counts)[row] + within
        into.slots.zero_(), into.places.zero_(), into.positions.fill_(-1), into.back.zero_()
        block = layout.block_table[row, position // self.block_size].astype(np.int64)
        _put(into.slots, token, block * self.block_size + position % self.block_size)
        place = row * into.places.shape[1] + within
        _put(into.places.view(-1), place, token)
        _put(into.positions.view(-1), place, position)
        _put(into.back, token, place)
        table = torch.from_numpy(layout.block_table.astype(np.int64))
        if bucket.max_blocks:
            into.blocks[: len(table)].copy_(table)
        else:  # any number of blocks: this bucket is never captured
            into.blocks = table.to(self.device)

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: GadgetPlan, rope: Rope | None = None
    ) -> Tensor:
        q, k = self.rotate(q, k, rope)
        keys, values = layer.cache
        keys.index_copy_(0, plan.slots, k.to(keys.dtype))
        values.index_copy_(0, plan.slots, v.to(values.dtype))
        offsets = torch.arange(self.block_size, device=q.device)
        slots = (plan.blocks[:, :, None] * self.block_size + offsets).flatten(1)  # [rows, keys]
        place = torch.arange(slots.shape[1], device=q.device)
        seen = place <= plan.positions[:, :, None]  # [rows, queries, keys]
        written = seen.any(1)[:, :, None, None]  # what nobody sees may be a number that nobody wrote
        gathered = [torch.where(written, x[slots].to(q.dtype), 0).transpose(1, 2) for x in (keys, values)]
        queries = q[plan.places].transpose(1, 2)  # [rows, heads, queries, dim]
        shared = self.need.query_heads != self.need.kv.kv_heads
        out = F.scaled_dot_product_attention(
            queries, *gathered, attn_mask=seen[:, None], scale=self.need.scale, enable_gqa=shared
        )
        return out.transpose(1, 2).flatten(0, 1).index_select(0, plan.back)


def _put(target: Tensor, places: np.ndarray, values: np.ndarray) -> None:
    """Write host numbers to places of a device tensor."""
    to = target.device
    target.index_copy_(0, torch.from_numpy(places).to(to), torch.from_numpy(values.astype(np.int64)).to(to))
