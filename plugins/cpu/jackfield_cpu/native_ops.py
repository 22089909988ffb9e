"""Functions of the plugin's own: norms and gates for layers that are not fused, and greedy sampling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jackfield_cpu.kernels import Kernels, Rows, refusal
from jackfield_platforms.communicator import Communicator
from jackfield_platforms.ops import Impl, OpSpec, OpTable


def ops(kernels: Kernels | str) -> OpTable:
    """The ops that have kernels."""
    own = _Ops(kernels)
    return OpTable(
        rms_norm=(Impl("native", own.rms_norm, own.rejects),),
        reduce_add_rms_norm=(Impl("native", own.reduce_add_rms_norm, own.rejects),),
        silu_mul=(Impl("native", own.silu_mul, own.rejects),),
        argmax=(Impl("native", own.argmax, own.rejects),),
    )


class _Ops:
    """The functions of an `OpTable`; shapes as in `jackfield_platforms.reference`."""

    def __init__(self, kernels: Kernels | str) -> None:
        self.kernels = kernels

    def rejects(self, spec: OpSpec) -> str | None:
        return refusal(self.kernels, spec.dtype)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out = torch.empty(x.shape, dtype=x.dtype)
        if _is_of_parts(x):
            heads, width = x.shape[1:]
            self._library().jackfield_norm_parts(
                Rows.of(x), len(x), heads, width, weight.data_ptr(), eps, Rows.of(out.flatten(1))
            )
            return out
        rows = _matrix(x)
        if len(rows):
            to = Rows.of(out.view(rows.shape))
            self._library().jackfield_norm(
                Rows.of(rows), None, len(rows), rows.shape[1], weight.data_ptr(), eps, None, to
            )
        return out

    def reduce_add_rms_norm(
        self, partial: Tensor, residual: Tensor, weight: Tensor, eps: float, comm: Communicator
    ) -> tuple[Tensor, Tensor]:
        x, y = _matrix(residual), _matrix(comm.all_reduce(partial))
        total, out = (torch.empty(residual.shape, dtype=residual.dtype) for _ in range(2))
        if len(x):
            self._library().jackfield_norm(
                Rows.of(x), Rows.of(y), len(x), x.shape[1], weight.data_ptr(), eps,
                Rows.of(total.view(x.shape)), Rows.of(out.view(x.shape)),
            )  # fmt: skip
        return out, total

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        x, width = _matrix(gate_up), gate_up.shape[-1] // 2
        out = torch.empty(*gate_up.shape[:-1], width, dtype=gate_up.dtype)
        if len(x):
            self._library().jackfield_silu_mul(Rows.of(x), len(x), width, Rows.of(out.view(len(x), width)))
        return out

    def argmax(self, logits: Tensor) -> Tensor:
        rows = _matrix(logits)
        out = torch.empty(len(rows), dtype=torch.int64)
        if len(rows):
            self._library().jackfield_argmax(Rows.of(rows), len(rows), rows.shape[1], out.data_ptr())
        return out

    def _library(self) -> Any:
        assert isinstance(self.kernels, Kernels), "rejected"
        return self.kernels.library


def _is_of_parts(x: Tensor) -> bool:
    """Whether this is heads side by side in wider rows: q or k, as the fused projection leaves them."""
    return x.dim() == 3 and len(x) > 0 and x.stride()[1:] == (x.shape[2], 1) and not x.is_contiguous()


def _matrix(x: Tensor) -> Tensor:
    """`[rows, width]` with a dense last dimension: a view where the strides allow it."""
    x = x.reshape(-1, x.shape[-1])
    return x if x.stride(1) == 1 else x.contiguous()
