"""Attention of a vendor's library over caches that lie token by token: what each one needs beside its call."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from jackfield_attention.slots import query_lengths, query_slots
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Windowed
from jackfield_platforms.linear import torch_dtype

DTYPES = ("bfloat16", "float16")


@dataclass(frozen=True)
class TokenPages:
    """One layer's cache."""

    k: Tensor  # [num_blocks, block_size, kv_heads, dim]
    v: Tensor  # the same


@dataclass
class PagesPlan:
    """One step. Rows are the real ones; what only the host knows makes this no plan for a capture."""

    slots: Tensor | None = None  # int64 [tokens], where each is written; padding at 0
    real: Tensor | None = None  # int64 [real tokens]: their places, where rows are padded inside; None: they come first
    starts: Any = None  # host, int32 [rows + 1]: where each row's real tokens begin
    kv_len: Any = None  # host, int32 [rows]
    table: Any = None  # host, int32 [rows, blocks]
    num_tokens: int = 0
    call: Any = None  # what the library was told of the step, in its own words


class LibraryAttention(AttentionBackend[PagesPlan]):
    """Writes keys and values by torch, and leaves attention to `attend`. It runs between captured pieces."""

    phases = frozenset({"prefill", "decode", "mixed"})
    exports = True
    graphs = "none"  # a library plans on the host

    module: ClassVar[str]  # of the library
    most_dim: ClassVar[int] = 256  # of a head

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        if need.query_dtype not in DTYPES or need.kv.dtype != need.query_dtype:
            return f"takes {' and '.join(DTYPES)}, queries and cache alike, not {need.query_dtype} on {need.kv.dtype}"
        if need.kv.k_dim != need.kv.v_dim or need.kv.k_dim > cls.most_dim or need.kv.k_dim % 8:
            return f"takes heads of one dim, a multiple of 8 up to {cls.most_dim}; got {need.kv.k_dim}, {need.kv.v_dim}"
        if need.query_heads % need.kv.kv_heads:
            return f"{need.query_heads} query heads are no multiple of {need.kv.kv_heads} kv heads"
        if need.sinks:
            return "knows no sinks"
        return cls.missing()

    @classmethod
    def missing(cls) -> str | None:
        """Why the library cannot be imported, or None."""
        try:
            importlib.import_module(cls.module)
        except (ImportError, OSError) as error:  # OSError: a library of its own is for another torch
            return f"{cls.module} cannot be imported: {str(error).splitlines()[0]}"
        return None

    @property
    def window(self) -> int:
        """Tokens before a query that it sees; -1: all."""
        return self.need.kv.window - 1 if isinstance(self.need.kv, Windowed) else -1

    def allocate(self, num_blocks: int) -> TokenPages:
        kv = self.need.kv
        shape = (num_blocks, self.block_size, kv.kv_heads, kv.k_dim)
        k, v = (torch.empty(shape, dtype=torch_dtype(kv.dtype), device=self.device) for _ in range(2))
        return TokenPages(k, v)

    def blank(self, bucket: Bucket) -> PagesPlan:
        return PagesPlan()

    def plan(self, layout: Layout, bucket: Bucket, into: PagesPlan) -> None:
        lengths, rows = query_lengths(layout), layout.num_rows
        slots = query_slots(layout, lengths, self.block_size, bucket.num_tokens)
        starts = np.zeros(rows + 1, np.int32)
        np.cumsum(lengths, out=starts[1:])
        padded = bool((starts[:rows] != layout.query_start[:rows]).any())
        into.slots = self._put(slots)
        into.real = None
        if padded:
            places = np.repeat(layout.query_start[:rows] - starts[:rows], lengths) + np.arange(starts[-1])
            into.real = self._put(places.astype(np.int64))
        into.starts, into.num_tokens = starts, int(starts[-1])
        # the layout's arrays are the runner's, and are filled anew while this step runs
        into.kv_len, into.table = layout.kv_len[:rows].copy(), layout.block_table[:rows].copy()
        if into.num_tokens:
            self.prepare(into)

    def run(self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: PagesPlan, rope: Rope | None = None) -> Tensor:
        q, k = self.rotate(q, k, rope)
        cache: TokenPages = layer.cache
        assert plan.slots is not None, "planned before it is run"
        for pages, fresh in ((cache.k, k), (cache.v, v)):
            pages.view(-1, *pages.shape[2:]).index_copy_(0, plan.slots, fresh.to(pages.dtype))
        out = torch.zeros_like(q)
        if not plan.num_tokens:
            return out
        if plan.real is not None:
            return out.index_copy_(0, plan.real, self.attend(q.index_select(0, plan.real), cache, plan))
        out[: plan.num_tokens] = self.attend(q[: plan.num_tokens], cache, plan)
        return out

    def prepare(self, plan: PagesPlan) -> None:
        """What the library wants once a step; nothing here."""

    def attend(self, q: Tensor, cache: TokenPages, plan: PagesPlan) -> Tensor:
        """q `[real tokens, heads, dim]` against the cache; as q."""
        raise AssertionError(f"{type(self).__name__} defines it")

    def token_views(self, cache: TokenPages) -> Mapping[str, Tensor]:
        return {"k": cache.k, "v": cache.v}

    def _put(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self.device)
