"""A decoder layer in one function of plain torch: what a vendor's fused layer looks like, for emulated devices."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from jackfield_platforms.attention import Rope
from jackfield_platforms.fusion import AttendFn, DecoderSpec, DecoderWeights, Fuse, LayerFn
from jackfield_platforms.linear import Encoded, TorchLinear


def fuse_plain(spec: DecoderSpec) -> Fuse | str:
    """Layers as Llama and Qwen3 have them, of plain weights; the reason for any other."""
    if spec.activation != "silu":
        return f"activation {spec.activation}; only silu is fused"
    for linear in (spec.qkv, spec.out, spec.gate_up, spec.down):
        if not linear.encoding.is_plain or linear.op != TorchLinear.name:
            written = linear.encoding.describe()
            return f"{linear.layer.name} has {written} weights multiplied by {linear.op!r}; only plain ones by 'torch'"
    return lambda weights: plain_layer(spec, weights)


def plain_layer(spec: DecoderSpec, weights: DecoderWeights) -> LayerFn:
    """The layer over these weights."""
    qkv, out, gate_up, down = (_plain(one) for one in (weights.qkv, weights.out, weights.gate_up, weights.down))
    sizes, heads = spec.qkv.layer.out_sizes, (-1, spec.head_dim)
    reduce = weights.comm.all_reduce

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, spec.eps)

    def layer(partial: Tensor | None, residual: Tensor, attend: AttendFn, rope: Rope | None) -> tuple[Tensor, Tensor]:
        if partial is not None:
            residual = residual + reduce(partial)
        x = norm(residual, weights.input_norm)
        q, k, v = (part.unflatten(-1, heads) for part in F.linear(x, qkv.data, qkv.bias).split(sizes, dim=-1))
        if weights.q_norm is not None and weights.k_norm is not None:
            q, k = norm(q, weights.q_norm), norm(k, weights.k_norm)
        attended = attend(spec.layer, q, k, v, rope).flatten(-2)
        residual = residual + reduce(F.linear(attended, out.data, out.bias))
        gate, up = F.linear(norm(residual, weights.post_attention_norm), gate_up.data, gate_up.bias).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, down.data, down.bias), residual

    return layer


def _plain(linear: Any) -> Encoded:
    packed: Encoded = linear.packed
    return packed
