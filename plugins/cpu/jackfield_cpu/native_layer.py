"""A decoder layer in two calls around its attention."""

from __future__ import annotations

from ctypes import pointer
from typing import Any

import torch
from torch import Tensor

from jackfield_cpu.kernels import DTYPES, Kernels, Layer, Rows
from jackfield_cpu.native_linear import LANES, NativeLinear, Panels
from jackfield_platforms.attention import Rope
from jackfield_platforms.fusion import AttendFn, DecoderSpec, DecoderWeights, Fuse
from jackfield_platforms.linear import torch_dtype


def fuse(kernels: Kernels | str, spec: DecoderSpec) -> Fuse | str:
    """`Platform.fuse`: the layer in two calls, or why not."""
    if isinstance(kernels, str):
        return kernels
    if spec.dtype not in ("bfloat16", "float32"):
        return f"layers are computed in bfloat16 or float32, not {spec.dtype}"
    if spec.activation != "silu":
        return f"the activation is silu here, not {spec.activation}"
    for linear in (spec.qkv, spec.out, spec.gate_up, spec.down):
        if linear.op != NativeLinear.name:
            return f"{linear.layer.name} is multiplied by {linear.op}"
    for name in ("hidden_size", "inner_size", "head_dim"):
        if getattr(spec, name) % LANES:
            return f"{name} must be a multiple of {LANES}; it is {getattr(spec, name)}"
    return lambda weights: NativeLayer(kernels, spec, weights)


class NativeLayer:
    """A `LayerFn`. Rounds to the activations' dtype where the reference does, but for gate and up."""

    def __init__(self, kernels: Kernels, spec: DecoderSpec, weights: DecoderWeights) -> None:
        self.before, self.after = kernels.library.jackfield_before, kernels.library.jackfield_after
        self.spec, self.weights, self.comm = spec, weights, weights.comm  # the latter two are pointed into
        self.sizes = [heads * spec.head_dim for heads in (spec.query_heads, spec.kv_heads, spec.kv_heads)]
        self.dtype = torch_dtype(spec.dtype)
        self.layer = Layer(
            qkv=_pointer(weights.qkv.packed),
            out=_pointer(weights.out.packed),
            gate_up=_pointer(weights.gate_up.packed),
            down=_pointer(weights.down.packed),
            input_norm=weights.input_norm.data_ptr(),
            post_norm=weights.post_attention_norm.data_ptr(),
            q_norm=None if weights.q_norm is None else weights.q_norm.data_ptr(),
            k_norm=None if weights.k_norm is None else weights.k_norm.data_ptr(),
            hidden=spec.hidden_size,
            inner=spec.inner_size,
            query_heads=spec.query_heads,
            kv_heads=spec.kv_heads,
            head_dim=spec.head_dim,
            dtype=DTYPES[self.dtype],
            eps=spec.eps,
        )

    def __call__(
        self, partial: Tensor | None, residual: Tensor, attend: AttendFn, rope: Rope | None
    ) -> tuple[Tensor, Tensor]:
        spec, layer, count = self.spec, self.layer, len(residual)
        qkv = residual.new_empty(count, sum(self.sizes))
        if partial is None:
            if count:
                self.before(layer, None, Rows.of(residual), count, Rows.of(residual), Rows.of(qkv))
        else:
            partial, total = self.comm.all_reduce(partial), torch.empty_like(residual)
            if count:
                self.before(layer, Rows.of(partial), Rows.of(residual), count, Rows.of(total), Rows.of(qkv))
            residual = total
        q, k, v = (part.unflatten(-1, (-1, spec.head_dim)) for part in qkv.split(self.sizes, dim=-1))
        attended = attend(spec.layer, q, k, v, rope).flatten(-2)
        total, out = torch.empty_like(residual), torch.empty_like(residual)
        if not count:
            return out, total
        if self.comm.size == 1:
            self.after(layer, Rows.of(attended), None, Rows.of(residual), count, Rows.of(total), Rows.of(out))
        else:
            projected = self.comm.all_reduce(self.weights.out.op.apply(attended, self.weights.out.packed))
            self.after(layer, None, Rows.of(projected), Rows.of(residual), count, Rows.of(total), Rows.of(out))
        return out, total


def _pointer(packed: Any) -> Any:
    assert isinstance(packed, Panels), "another op packed it"
    return pointer(packed.weight)
