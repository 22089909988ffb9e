"""All experts of a layer in one call: routed, sorted and multiplied by the kernels."""

from __future__ import annotations

from ctypes import POINTER, Array, cast

import torch
from torch import Tensor

from jackfield_cpu.kernels import DTYPES, Experts, Kernels, Rows, Weight, refusal
from jackfield_cpu.native_linear import LANES, NativeLinear
from jackfield_platforms.experts import ExpertsSpec, ExpertWeights, MakeExperts
from jackfield_platforms.fusion import PackedLinear
from jackfield_platforms.linear import torch_dtype


def experts(kernels: Kernels | str, spec: ExpertsSpec) -> MakeExperts | str:
    """`Platform.experts`: the layer's experts in one call, or why not."""
    if isinstance(kernels, str):
        return kernels
    if (reason := refusal(kernels, spec.dtype)) is not None:
        return reason
    for linear in (spec.gate_up, spec.down):
        if linear.op != NativeLinear.name:
            return f"{linear.layer.name} is multiplied by {linear.op}"
    if spec.inner_size % LANES:
        return f"inner_size must be a multiple of {LANES}; it is {spec.inner_size}"
    return lambda weights: NativeExperts(kernels, spec, weights)


class NativeExperts:
    """An `ExpertsFn`. Rounds gate and up together and once, and the sum over a token's experts once."""

    def __init__(self, kernels: Kernels, spec: ExpertsSpec, weights: ExpertWeights) -> None:
        self.call, self.spec = kernels.library.jackfield_experts, spec
        tables = [_table(linears) for linears in (weights.gate_up, weights.down)]
        self.held = (weights, tables)  # pointed into
        gate_up, down = (cast(table, POINTER(Weight)) for table in tables)
        self.experts = Experts(
            gate_up=gate_up,
            down=down,
            count=spec.num_experts,
            top=spec.top,
            hidden=spec.hidden_size,
            inner=spec.inner_size,
            renormalize=spec.renormalize,
            dtype=DTYPES[torch_dtype(spec.dtype)],
        )

    def __call__(self, x: Tensor, logits: Tensor) -> Tensor:
        x, logits = (rows if rows.stride(-1) == 1 else rows.contiguous() for rows in (x, logits))
        out = torch.empty(x.shape, dtype=x.dtype)
        if len(x):
            self.call(self.experts, Rows.of(x), Rows.of(logits), len(x), Rows.of(out))
        return out


def _table(linears: tuple[PackedLinear, ...]) -> Array[Weight]:
    return (Weight * len(linears))(*[linear.packed.weight for linear in linears])
