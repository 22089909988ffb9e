"""Paged attention on GPUs, in kernels that Triton compiles for the one at hand."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from jackfield_attention.cache import Cache, LatentCache, empty_cache
from jackfield_attention.support import BLOCK_SIZES, DTYPES, KINDS
from jackfield_attention.triton.gpu import Gpu
from jackfield_attention.triton.grid import Grid
from jackfield_attention.triton.launch import LayerTensors, attend, write
from jackfield_attention.triton.plan import PlanSizes, TritonPlan, as_array, fill
from jackfield_attention.triton.shape import FLOAT8, Shape
from jackfield_attention.triton.staging import Staging
from jackfield_attention.triton.traced import numbered, run_traced
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Latent
from jackfield_platforms.ops import Ops

MAX_DIM = 256  # of a head
MAX_RANK, MAX_ROPE_DIM = 512, 128  # of latents
PREFERRED_BLOCK = 64


class TritonAttention(AttentionBackend[TritonPlan]):
    """One kernel for prompts, decode and mixtures, one for latents, one that writes and rotates.

    Keys and values lie block first, then head: `[num_blocks, kv_heads, block_size, dim]`. A program reads the keys of
    one head, so that those of one block are one stretch of memory (16 KiB with 64 tokens of 128 numbers): whole cache
    lines whatever the head size, and few pages of DRAM. With blocks of 64 a step of the kernel's loop lies in one
    block, whose place is one number instead of one a key.

    Rows and tokens that pad a launch are written to the null block and end at once; their answers are undefined.
    """

    name = "triton"
    block_sizes = (PREFERRED_BLOCK, *(size for size in BLOCK_SIZES if size != PREFERRED_BLOCK))
    phases = frozenset({"prefill", "decode", "mixed"})
    kinds = KINDS
    extras = frozenset({"alibi", "kv_scales"})
    exports = True
    graphs = "any"

    def __init__(self, need: AttentionNeed, block_size: int, *, device: torch.device, ops: Ops) -> None:
        """RuntimeError when `device` is no GPU, unless Triton interprets its kernels (TRITON_INTERPRET=1)."""
        super().__init__(need, block_size, device=device, ops=ops)
        self.gpu = Gpu.of(device)
        self.shape = Shape.of(need, block_size, self.gpu)
        self.staging = Staging(device)
        self.number = numbered(self)

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        kv, cached = need.kv, (*DTYPES, *FLOAT8)
        if kv.dtype not in cached:
            return f"cache dtype {kv.dtype} is none of {', '.join(cached)}"
        if need.query_dtype not in DTYPES:
            return f"query dtype {need.query_dtype} is none of {', '.join(DTYPES)}"
        if need.query_heads % kv.kv_heads:
            return f"{need.query_heads} query heads are no multiple of {kv.kv_heads} kv heads"
        if isinstance(kv, Latent):
            return _rejects_latents(kv, need)
        if max(kv.k_dim, kv.v_dim) > MAX_DIM:
            return f"heads of {kv.k_dim} and {kv.v_dim} numbers are larger than {MAX_DIM}"
        return None

    @classmethod
    def may_capture(cls, bucket: Bucket) -> bool:
        """Where blocks are bounded: elsewhere a plan is as large as its step."""
        return bucket.max_blocks > 0

    def allocate(self, num_blocks: int) -> Cache:
        if num_blocks * self.block_size >= 1 << 31:
            raise ValueError(f"{num_blocks} blocks of {self.block_size} tokens are too many for int32; use fewer")
        return empty_cache(self.need.kv, num_blocks, self.block_size, self.device)

    def blank(self, bucket: Bucket) -> TritonPlan:
        plan = self._sized(bucket, bucket.max_blocks)
        plan.number = numbered(plan)
        return plan

    def plan(self, layout: Layout, bucket: Bucket, into: TritonPlan) -> None:
        if not bucket.max_blocks:
            longest = int(layout.kv_len[: layout.num_rows].max(initial=0))
            into.take(self._sized(bucket, -(-longest // self.block_size)))
        host = self.staging.take(into.starts["end"])
        used = fill(as_array(host), layout, into, self.block_size)
        self.staging.send(host[:used], into.numbers)

    def _sized(self, bucket: Bucket, columns: int) -> TritonPlan:
        grid = Grid.of(bucket, self.need, self.gpu, columns * self.block_size)
        sizes = PlanSizes(bucket.num_rows, bucket.num_tokens, grid.tiles, columns)
        return TritonPlan.blank(grid, sizes, self.device)

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: TritonPlan, rope: Rope | None = None
    ) -> Tensor:
        tensors = self._tensors(layer)
        if torch.compiler.is_compiling():
            return run_traced(self.number, (q, k, v), tensors, plan, rope)
        return self.launch((q, k, v), tensors, plan, rope)

    def launch(
        self, step: tuple[Tensor, Tensor, Tensor], layer: LayerTensors, plan: TritonPlan, rope: Rope | None
    ) -> Tensor:
        """`run`, with what the kernels read of the layer."""
        return attend(self.shape, write(self.shape, step, layer, plan, rope), layer, plan)

    def _tensors(self, layer: LayerKV) -> LayerTensors:
        cache: Cache = layer.cache
        k, v = cache.k, None if isinstance(cache, LatentCache) else cache.v
        if self.shape.fp8:
            k, v = k.view(torch.uint8), None if v is None else v.view(torch.uint8)
        need = self.need
        return LayerTensors(
            k,
            v,
            layer.sinks if need.sinks else None,
            layer.slopes if need.alibi else None,
            layer.k_scale if need.kv_scales else None,
            layer.v_scale if need.kv_scales else None,
        )

    def token_views(self, cache: Cache) -> Mapping[str, Tensor]:
        return cache.token_views()


def _rejects_latents(kv: Latent, need: AttentionNeed) -> str | None:
    if kv.rank > MAX_RANK or kv.rope_dim > MAX_ROPE_DIM:
        return f"latents of {kv.rank} + {kv.rope_dim} numbers are larger than {MAX_RANK} + {MAX_ROPE_DIM}"
    return "latents with ALiBi slopes" if need.alibi else None
