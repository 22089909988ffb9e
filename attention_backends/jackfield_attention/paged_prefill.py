"""Rows with several query tokens, a row and a chunk of queries at a time, so that no mask or score matrix is large."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_attention.cache import Cache, head_blocks
from jackfield_attention.dense import visible
from jackfield_attention.softmax import capped_, weigh
from jackfield_attention.window import first_key, window_of
from jackfield_platforms.attention import AttentionNeed, LayerKV, Layout
from jackfield_platforms.kv import Latent

MAX_QUERIES = 128  # a chunk
MAX_SCORES = 4 << 20  # elements of a chunk's score matrix over all heads


@dataclass(frozen=True)
class Chunk:
    """Queries that are attended together, and the keys that at least one of them sees."""

    queries: slice  # of the step's tokens
    keys: slice  # of the row's keys
    seen: Tensor  # bool [queries, keys]


@dataclass(frozen=True)
class PrefillRow:
    """One row: where its keys come from, and its chunks."""

    tokens: slice  # of the step
    gather: Tensor | None  # flat (block, head) indices [kv_heads * blocks]; None: all its keys are the step's
    chunks: list[Chunk]


def plan_row(layout: Layout, row: int, need: AttentionNeed, block_size: int, device: torch.device) -> PrefillRow:
    """Cut one row into chunks."""
    start = int(layout.query_start[row])
    stop = start + int(layout.num_new[row])
    kv_len, window = int(layout.kv_len[row]), window_of(need.kv)
    computed = kv_len - (stop - start)
    if computed:
        first_block = first_key(computed, window) // block_size
        ids = layout.block_table[row, first_block : -(-kv_len // block_size)].astype(np.int64)
        gather = torch.from_numpy(head_blocks(ids, need.kv.kv_heads).ravel()).to(device)
    else:
        first_block, gather = 0, None
    step = max(1, min(MAX_QUERIES, MAX_SCORES // (need.query_heads * kv_len)))
    chunks = []
    for begin in range(computed, kv_len, step):
        end = min(begin + step, kv_len)
        oldest = first_key(begin, window)
        keys = slice(oldest - first_block * block_size, end - first_block * block_size)
        seen = visible(end - begin, end - oldest, window).to(device)
        chunks.append(Chunk(slice(start + begin - computed, start + end - computed), keys, seen))
    return PrefillRow(slice(start, stop), gather, chunks)


@dataclass(frozen=True)
class Prefill:
    """Attention of prefill rows in `dtype`, chosen once."""

    need: AttentionNeed
    dtype: torch.dtype

    @property
    def is_latent(self) -> bool:
        """Whether values are a part of the keys, and all heads share them: then heads are one product, not copies."""
        return isinstance(self.need.kv, Latent)

    def run(self, step: tuple[Tensor, Tensor, Tensor], layer: LayerKV, rows: list[PrefillRow], out: Tensor) -> None:
        """Attend from the step's q, k, v (k and v in the cache's dtype) into out, `[tokens, query_heads, v_dim]`."""
        q, k, v = step
        cache: Cache = layer.cache
        for row in rows:
            keys = self._keys(k, cache.k, row)
            values = keys[..., : v.shape[-1]] if self.is_latent else self._keys(v, cache.v, row)
            for chunk in row.chunks:
                queries = q[chunk.queries].transpose(0, 1).to(self.dtype)  # [query_heads, queries, k_dim]
                seen = keys[:, chunk.keys], values[:, chunk.keys]
                out[chunk.queries] = self._attend(queries, *seen, chunk.seen, layer.sinks).transpose(0, 1).to(out.dtype)

    def _keys(self, fresh: Tensor, cached: Tensor, row: PrefillRow) -> Tensor:
        """Keys or values of a row, `[kv_heads, keys, dim]`."""
        if row.gather is None:
            return fresh[row.tokens].transpose(0, 1).to(self.dtype)
        blocks = cached.view(-1, *cached.shape[2:]).index_select(0, row.gather)
        return blocks.view(self.need.kv.kv_heads, -1, cached.shape[-1]).to(self.dtype)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor, sinks: Tensor | None) -> Tensor:
        need = self.need
        if sinks is None and need.soft_cap is None and not self.is_latent:
            batch = q[None], k[None], v[None], seen  # of one
            shared = need.query_heads != need.kv.kv_heads
            return F.scaled_dot_product_attention(*batch, scale=need.scale, enable_gqa=shared)[0]
        grouped = q.reshape(need.kv.kv_heads, -1, q.shape[-1])  # [kv_heads, heads a kv head * queries, k_dim]
        scores = torch.bmm(grouped.float(), k.float().transpose(1, 2)).mul_(need.scale).view(*q.shape[:2], -1)
        capped_(scores, need.soft_cap).masked_fill_(~seen, float("-inf"))
        weights = torch.empty_like(scores)
        weigh(scores, None if sinks is None else sinks.float()[:, None, None], weights)
        return torch.bmm(weights.view(need.kv.kv_heads, -1, k.shape[1]), v.float()).view(*q.shape[:2], -1)
