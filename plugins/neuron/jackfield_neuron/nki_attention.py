"""Prompts through the vendor's flash attention kernel; everything else as `gathered` does it. Not run on a device yet.

The kernel takes a prompt's own keys apart from those before it, of which it is told how many count: so it needs no mask
and makes no scores that leave the core.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from jackfield_attention.cache import Cache
from jackfield_attention.gathered import GatheredAttention
from jackfield_attention.gathered_plan import GatheredPlan
from jackfield_neuron import nki_kernel
from jackfield_platforms.attention import AttentionNeed, LayerKV, Rope
from jackfield_platforms.kv import Paged


class NkiAttention(GatheredAttention):
    """`attention_cte`, once a row. Sliding windows are refused: the kernel's documentation lets a query see one key
    more behind it than its reference does.
    """

    name = "nki"
    kinds = (Paged,)
    fewest_queries: ClassVar[int] = 128
    """A row of fewer is left to the gather: the kernel takes queries in groups of 128."""

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        if need.query_dtype != nki_kernel.DTYPE or need.kv.dtype != nki_kernel.DTYPE:
            return f"multiplies in {nki_kernel.DTYPE}, not {need.query_dtype} queries by {need.kv.dtype} keys"
        if need.kv.k_dim != need.kv.v_dim or need.kv.k_dim > nki_kernel.MOST_DIM:
            return f"takes heads of one dim up to {nki_kernel.MOST_DIM}; got {need.kv.k_dim} and {need.kv.v_dim}"
        if need.soft_cap is not None:
            return "knows no soft cap"
        return super().rejects(need) or nki_kernel.missing()

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: GatheredPlan, rope: Rope | None = None
    ) -> Tensor:
        if plan.positions.shape[1] < self.fewest_queries:
            return super().run(q, k, v, layer, plan, rope)
        q, k = self.rotate(q, k, rope)
        cache: Cache = layer.cache
        cache.write(plan.written, k.to(cache.k.dtype), v.to(cache.v.dtype))
        computed = plan.positions[:, :1].clamp(min=0)  # tokens before the row's first query
        is_prior = self._key_positions(plan) < computed
        priors = [self._gathered(part, is_prior, plan) for part in (cache.k, cache.v)]
        fresh = [self._by_row(x, plan) for x in (q.float().mul(self.need.scale).to(q.dtype), k, v)]
        out = [
            self._row([x[row] for x in fresh], [x[row] for x in priors], computed[row], layer.sinks)
            for row in range(len(computed))
        ]
        return torch.stack(out).transpose(1, 2).flatten(0, 1)

    def _by_row(self, x: Tensor, plan: GatheredPlan) -> Tensor:
        """Tokens as [rows, heads, queries, dim], 0 where a row is padded: a padded key may hold a NaN."""
        rows = x.unflatten(0, plan.positions.shape)
        return torch.where((plan.positions >= 0)[:, :, None, None], rows, 0).transpose(1, 2)

    def _row(self, fresh: list[Tensor], prior: list[Tensor], computed: Tensor, sinks: Tensor | None) -> Tensor:
        """The kernel on one row: `[heads, queries, dim]`. With prior keys its scale must be 1: queries come scaled."""
        q, k, v = fresh
        answer: Tensor = nki_kernel.kernel()(
            q,
            k,
            v,
            scale=1.0,
            causal_mask=True,
            k_prior=prior[0],
            v_prior=prior[1],
            prior_used_len=computed.to(torch.int32),
            sink=None if sinks is None else sinks.float().unsqueeze(1),
            tp_q=True,
            tp_k=True,
            tp_out=False,
        )
        return answer
