"""Paged attention in eager torch for any mix of rows. Cost and temporaries grow with the sum of kv lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from jackfield_attention.cache import Cache, empty_cache, head_rows
from jackfield_attention.decode_plan import DecodePlan, DecodePlanner
from jackfield_attention.paged_decode import run_decode
from jackfield_attention.paged_prefill import Prefill, PrefillRow, plan_row
from jackfield_attention.slots import decode_head_rows, is_decode, query_lengths, query_slots
from jackfield_attention.support import BLOCK_SIZES, KINDS, unsupported
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Latent
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import Ops


@dataclass
class PagedPlan:
    """One step: where its tokens are written, which rows decode and which prefill."""

    written: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # [tokens * kv_heads] flat rows
    decode: DecodePlan | None = None
    prefill: list[PrefillRow] = field(default_factory=list)


class PagedTorchAttention(AttentionBackend[PagedPlan]):
    """Decode rows in groups of similar length, prefill rows one by one; no padded batch. Runs any size."""

    name = "paged-torch"
    block_sizes = BLOCK_SIZES
    phases = frozenset({"prefill", "decode", "mixed"})
    kinds = KINDS
    exports = True

    def __init__(self, need: AttentionNeed, block_size: int, *, device: torch.device, ops: Ops) -> None:
        super().__init__(need, block_size, device=device, ops=ops)
        self.head_starts = np.arange(need.kv.kv_heads, dtype=np.int64) * block_size
        self.decode = DecodePlanner(need, block_size, device)
        self.prefill = Prefill(need, prefill_dtype(need, device))

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        return unsupported(need)

    def allocate(self, num_blocks: int) -> Cache:
        rows = num_blocks * self.need.kv.kv_heads * self.block_size
        if rows >= 1 << 31:
            raise ValueError(f"{num_blocks} blocks hold {rows} rows of one head, too many for int32; use fewer blocks")
        return empty_cache(self.need.kv, num_blocks, self.block_size, self.device)

    def blank(self, bucket: Bucket) -> PagedPlan:
        return PagedPlan()

    def plan(self, layout: Layout, bucket: Bucket, into: PagedPlan) -> None:
        if is_decode(layout) and bucket.num_tokens == layout.num_tokens:
            rows = decode_head_rows(layout, self.head_starts, self.block_size)
            into.written = torch.from_numpy(rows.ravel()).to(self.device)
            into.decode, into.prefill = self.decode.plan(layout, np.arange(layout.num_rows), rows), []
            return
        lengths = query_lengths(layout)
        slots = query_slots(layout, lengths, self.block_size, bucket.num_tokens)
        rows = head_rows(slots, self.need.kv.kv_heads, self.block_size)
        into.written = torch.from_numpy(rows.ravel()).to(self.device)
        decode = np.flatnonzero(lengths == 1)
        into.decode = self.decode.plan(layout, decode, rows) if decode.size else None
        prefill = np.flatnonzero(lengths > 1).tolist()
        into.prefill = [plan_row(layout, row, self.need, self.block_size, self.device) for row in prefill]

    def run(self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: PagedPlan, rope: Rope | None = None) -> Tensor:
        q, k = self.rotate(q, k, rope)
        cache: Cache = layer.cache
        k, v = k.to(cache.k.dtype), v.to(cache.v.dtype)
        cache.write(plan.written, k, v)
        out = q.new_zeros(q.shape[0], q.shape[1], v.shape[-1])
        if plan.decode is not None:
            run_decode(q, layer, plan.decode, self.need, out)
        self.prefill.run((q, k, v), layer, plan.prefill, out)
        return out

    def token_views(self, cache: Cache) -> Mapping[str, Tensor]:
        return cache.token_views()


def prefill_dtype(need: AttentionNeed, device: torch.device) -> torch.dtype:
    """What prompts are attended in: the cache's dtype where the device multiplies it natively, otherwise float32.

    A processor without 16-bit matrix instructions emulates them, at best as fast as float32.
    """
    dtype = torch_dtype(need.kv.dtype)
    if need.query_dtype != need.kv.dtype or need.soft_cap is not None or need.sinks or isinstance(need.kv, Latent):
        return torch.float32
    if device.type != "cpu":
        return dtype
    native = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported,
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return dtype if dtype in native and native[dtype]() else torch.float32
