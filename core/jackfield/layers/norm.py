"""RMSNorm, alone and joined with the residual addition before it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from jackfield.layers.packable import Packable
from jackfield.models.interface import Build
from jackfield_platforms.linear import ParamSpec


class RMSNorm(Packable):
    """Root-mean-square norm over the last dimension, of `size` elements."""

    weight: Tensor  # [size]

    def __init__(self, build: Build, name: str, size: int, *, eps: float | None = None) -> None:
        super().__init__(name)
        self.size, self.eps = size, build.config.rms_norm_eps if eps is None else eps
        self.dtype_name = build.dtype_name
        self.norm, self.reduce_add_norm, self.comm = build.ops.rms_norm, build.ops.reduce_add_rms_norm, build.comm

    def params(self) -> Mapping[str, ParamSpec]:
        return {"weight": ParamSpec((self.size,), self.dtype_name, out_dim=None)}

    def pack(self, params: dict[str, Tensor]) -> None:
        self.weight = params.pop("weight")

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x, self.weight, self.eps)

    def add(self, partial: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Sum `partial` over ranks, add it to `residual`, norm. Returns (normed, new residual)."""
        return self.reduce_add_norm(partial, residual, self.weight, self.eps, self.comm)
