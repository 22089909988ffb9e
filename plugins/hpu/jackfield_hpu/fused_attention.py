"""Attention through the vendor's kernels: FusedSDPA for prompts, block softmax for decode rows. Not run on a device.

`FusedSDPA.apply(q, k, v, attn_mask, dropout_p, is_causal, scale, softmax_mode, recompute_mode, valid_seq_len,
seq_padding_type)` of `habana_frameworks.torch.hpex.kernels` (Intel Gaudi documentation, "Intel Gaudi PyTorch Python
API", hpex.kernels.FusedSDPA; gaudi-pytorch-bridge, `hpex/kernels/FusedSDPA.py`): q [rows, heads, queries, dim], k and v
[rows, kv_heads, keys, dim]; a mask is added to scores; valid lengths are taken with `is_causal` alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jackfield_attention.gathered_plan import GatheredPlan
from jackfield_attention.window import window_of
from jackfield_hpu.block_softmax import BlockSoftmax
from jackfield_hpu.flat_attention import FlatAttention
from jackfield_hpu.fused_softmax import fused_block_softmax, missing
from jackfield_hpu.vendor import missing_module, module
from jackfield_platforms.attention import AttentionNeed, LayerKV
from jackfield_platforms.kv import Latent

KERNELS = "hpex.kernels"
RIGHT = "right"  # where rows are padded


class FusedAttention(FlatAttention):
    """The same plans; what the kernels do not document is refused, and served by `hpu-flat`."""

    name = "hpu-fused"

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        if need.soft_cap is not None:
            return "FusedSDPA knows no soft cap"
        if need.sinks:
            return "block_softmax knows no sinks"
        if isinstance(need.kv, Latent) or need.kv.k_dim != need.kv.v_dim:
            return f"FusedSDPA documents heads of one dim; got {need.kv.k_dim} and {need.kv.v_dim}"
        if need.query_dtype == "float16":
            return "block_softmax is tested by its vendor in bfloat16 and float32, not in float16"
        return super().rejects(need) or missing_module(KERNELS) or missing()

    def softmax(self) -> BlockSoftmax:
        return fused_block_softmax

    def _prompt(self, q: Tensor, layer: LayerKV, plan: GatheredPlan) -> Tensor:
        position = self._key_positions(plan)
        keys, values = self._gathered(layer, position, plan, q.dtype)
        # a mask is added to scores, and what nobody wrote may be no number
        keys = torch.where(self._written(position, plan)[:, :, None, None], keys, 0).transpose(1, 2)
        values = values.transpose(1, 2)
        if window_of(self.need.kv) is None and position.shape == plan.positions.shape:
            return self._without_context(q, keys, values, plan)
        seen = self._in_sight(position[:, None], plan.positions[:, :, None])
        mask = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, torch.finfo(q.dtype).min)
        out = self._fused(q, keys, values, mask[:, None], None)
        return out.flatten(0, 1)

    def _without_context(self, q: Tensor, keys: Tensor, values: Tensor, plan: GatheredPlan) -> Tensor:
        """A bucket with room for a prompt's own tokens alone: queries stand at their positions, so that the mask is
        triangular and need not be made, though a row may begin behind a few computed tokens.
        """
        rows, queries = plan.positions.shape
        first = torch.arange(rows, dtype=torch.int32, device=q.device)[:, None] * queries
        place = torch.arange(queries, dtype=torch.int32, device=q.device)
        position = plan.positions.clamp(min=0)
        standing = (place - position[:, :1]).clamp(min=0) + first
        q = q.flatten(0, 1).index_select(0, standing.flatten()).unflatten(0, (rows, queries))
        # a length of 0 would leave nothing to average
        out = self._fused(q, keys, values, None, plan.sight[:, 1].clamp(min=1))
        return out.flatten(0, 1).index_select(0, (position + first).flatten())

    def _fused(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor:
        """Queries come scaled, [rows, queries, heads, dim], as the answer is; without a mask attention is causal."""
        fused: Any = module(KERNELS).FusedSDPA
        # in inference nothing is kept for a backward pass: recompute_mode
        out = fused.apply(q.transpose(1, 2), keys, values, mask, 0.0, mask is None, 1.0, "None", True, lengths, RIGHT)
        answer: Tensor = out.transpose(1, 2)
        return answer
