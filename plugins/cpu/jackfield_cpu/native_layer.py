"""A decoder layer in two calls around its attention."""

from __future__ import annotations

from ctypes import pointer
from typing import Any

import torch
from torch import Tensor

from jackfield_cpu.kernels import DTYPES, Kernels, Layer, refusal
from jackfield_cpu.native_linear import LANES, NativeLinear, Panels
from jackfield_platforms.attention import Rope
from jackfield_platforms.fusion import AttendFn, DecoderSpec, DecoderWeights, Fuse
from jackfield_platforms.linear import torch_dtype


def fuse(kernels: Kernels | str, spec: DecoderSpec) -> Fuse | str:
    """`Platform.fuse`: the layer in two calls, or why not."""
    if isinstance(kernels, str):
        return kernels
    if (reason := refusal(kernels, spec.dtype)) is not None:
        return reason
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
        self.parts = [spec.query_heads, spec.kv_heads, spec.kv_heads]
        self.heads = sum(self.parts)
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
            dtype=DTYPES[torch_dtype(spec.dtype)],
            eps=spec.eps,
        )

    def __call__(
        self, partial: Tensor | None, residual: Tensor, attend: AttendFn, rope: Rope | None
    ) -> tuple[Tensor, Tensor]:
        residual, count = residual.contiguous(), len(residual)
        qkv = residual.new_empty(count, self.heads, self.spec.head_dim)
        if partial is None:
            total, added = residual, None
        else:
            total, added = torch.empty_like(residual), self.comm.all_reduce(partial).contiguous()
        address = None if added is None else added.data_ptr()
        self.before(self.layer, address, residual.data_ptr(), count, total.data_ptr(), qkv.data_ptr())
        q, k, v = qkv.split_with_sizes(self.parts, dim=1)
        attended = attend(self.spec.layer, q, k, v, rope).contiguous()
        return self._after(attended, total)

    def _after(self, attended: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        total, out, count = torch.empty_like(residual), torch.empty_like(residual), len(residual)
        if self.comm.size == 1:
            first, projected = attended.data_ptr(), None
        else:
            linear = self.weights.out
            reduced = self.comm.all_reduce(linear.op.apply(attended.flatten(1), linear.packed)).contiguous()
            first, projected = None, reduced.data_ptr()
        self.after(self.layer, first, projected, residual.data_ptr(), count, total.data_ptr(), out.data_ptr())
        return out, total


def _pointer(packed: Any) -> Any:
    assert isinstance(packed, Panels), "another op packed it"
    return pointer(packed.weight)
