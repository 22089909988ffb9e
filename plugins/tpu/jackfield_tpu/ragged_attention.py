"""Ragged paged attention of torch-xla: prompts and decode rows in one Pallas kernel, over a paged cache.

`torch.ops.xla.ragged_paged_attention` as torch-xla 2.9 defines it (`torch_xla.experimental.custom_kernel`; the kernel
is `torch_xla.experimental.pallas_kernels.ragged_paged_attention_v2`; PyTorch/XLA documentation, "Custom Kernels via
Pallas").
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import KVSpec
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import Ops
from jackfield_tpu.ragged_pages import LANES, RaggedPages, RaggedPlan, padded_dim, ragged_arrays, widened
from jackfield_xla.software import is_installed

DTYPES = ("bfloat16", "float32")
MODULE = "torch_xla.experimental.custom_kernel"  # registers the op when it is imported


class RaggedPagedAttention(AttentionBackend[RaggedPlan]):
    """The kernel. It reads as many tokens as are there, whatever the bucket; only queries are padded."""

    name = "ragged-paged"
    block_sizes = (128, 64, 32, 16, 256)
    graphs: ClassVar[Literal["any", "uniform", "none"]] = "any"
    exports = True
    phases = frozenset({"prefill", "decode", "mixed"})

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        return off_the_chip() or unserved(need)

    def __init__(self, need: AttentionNeed, block_size: int, *, device: torch.device, ops: Ops) -> None:
        super().__init__(need, block_size, device=device, ops=ops)
        importlib.import_module(MODULE)

    @classmethod
    def block_bytes(cls, spec: KVSpec, block_size: int) -> int:
        return block_size * 2 * spec.kv_heads * padded_dim(spec) * torch_dtype(spec.dtype).itemsize

    def allocate(self, num_blocks: int) -> RaggedPages:
        dtype = torch_dtype(self.need.kv.dtype)
        return RaggedPages.empty(self.need.kv, num_blocks, self.block_size, dtype=dtype, device=self.device)

    def blank(self, bucket: Bucket) -> RaggedPlan:
        return RaggedPlan.blank(bucket, self.device)

    def plan(self, layout: Layout, bucket: Bucket, into: RaggedPlan) -> None:
        arrays = ragged_arrays(layout, bucket, self.need, self.block_size)
        if bucket.max_blocks:
            into.fill(arrays)
        else:
            into.replace(arrays)

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: RaggedPlan, rope: Rope | None = None
    ) -> Tensor:
        q, k = self.rotate(q, k, rope)
        cache: RaggedPages = layer.cache
        cache.write(plan.slots, k, v)
        queries = widened(q, cache.pages.shape[-1])
        if not plan.packed.shape[0]:
            return self.attend(queries, cache.pages, plan)[..., : cache.v_dim]
        out = self.attend(queries.index_select(0, plan.packed), cache.pages, plan)
        return out.index_select(0, plan.places)[..., : cache.v_dim]

    def attend(self, queries: Tensor, pages: Tensor, plan: RaggedPlan) -> Tensor:
        """The kernel's call: `[tokens, query_heads, dim]`, anything in tokens behind the last row's."""
        pages_at_once, queries_at_once = self.tiles(queries.shape[0], plan.block_table.shape[1])
        out: Tensor = torch.ops.xla.ragged_paged_attention(
            queries,
            pages,
            plan.kv_len,
            plan.block_table,
            plan.query_start,
            plan.num_rows,
            sm_scale=self.need.scale,
            sliding_window=window_of(self.need.kv),
            soft_cap=self.need.soft_cap,
            num_kv_pages_per_block=pages_at_once,
            num_queries_per_block=queries_at_once,
        )
        return out

    def tiles(self, num_tokens: int, max_blocks: int) -> tuple[int | None, int | None]:
        """Blocks and queries that the kernel takes at once; None: what its own table says for the chip."""
        return None, None

    def token_views(self, cache: RaggedPages) -> Mapping[str, Tensor]:
        return cache.token_views()


def off_the_chip() -> str | None:
    """Why the kernel cannot run in this process whatever is asked of it, or None."""
    for module, what in (("torch_xla", "torch-xla, whose kernel this is,"), ("jax", "JAX, which traces the kernel,")):
        if not is_installed(module):
            return f"{what} is not installed"
    from torch_xla import runtime

    found = runtime.device_type()
    return None if found == "TPU" else f"the kernel is compiled for TPUs alone, and torch-xla runs on {found}"


def unserved(need: AttentionNeed) -> str | None:
    """What of `need` the kernel does not know, or None."""
    kv = need.kv
    if kv.dtype not in DTYPES:
        return f"cache dtype {kv.dtype} is none of {', '.join(DTYPES)}"
    if need.query_dtype != kv.dtype:
        return f"queries are {need.query_dtype} and the cache is {kv.dtype}; the kernel multiplies equal dtypes"
    if need.sinks:
        return "the kernel knows no attention sinks"
    if need.query_heads % kv.kv_heads:
        return f"{need.query_heads} query heads are no multiple of {kv.kv_heads} kv heads"
    if padded_dim(kv) > LANES:
        return f"heads of {max(kv.k_dim, kv.v_dim)} numbers are wider than the {LANES} that the kernel loads at once"
    rows = 2 * kv.kv_heads * torch_dtype(kv.dtype).itemsize / 4  # of a vector register, which 16-bit numbers share
    if rows not in (1, 2, 4) and rows % 8:
        return f"{kv.kv_heads} kv heads of {kv.dtype} do not fill whole tiles of a register; powers of two do"
    return None
