"""Rounding to 8-bit floats and multiplying them: the vendor's operations, and the same in torch.

`torch.ops.hpu.cast_to_fp8_v2(x, scale, stochastic_rounding, is_amax, dtype)` multiplies by its scale and rounds;
`torch.ops.hpu.fp8_gemm_v2(A, trans_A, B, trans_B, D, out_dtype, A_scale_inv, B_scale_inv, bias, accumulate)` multiplies
the product by both of its scales. Scales are tensors, or plain numbers, which other programs are compiled for unless
RUNTIME_SCALE_PATCHING is 1 (Intel Gaudi documentation, "Run Inference Using FP8"; the schemas of gaudi-pytorch-bridge).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from jackfield_hpu.vendor import missing_op, op

Scale = Tensor | float  # of a tensor, a number; by tokens [tokens, 1], by rows of a weight [1, out]
DTYPE = torch.float8_e4m3fn


class Products(Protocol):
    """Where the two operations come from."""

    name: str

    def missing(self) -> str | None:
        """Why they are not there, or None."""

    def cast(self, x: Tensor, inverse: Scale, most: float) -> Tensor:
        """x times `inverse` as 8-bit floats; what is beyond `most` becomes that."""

    def multiply(
        self, x: Tensor, weight: Tensor, scales: tuple[Scale, Scale], bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """x `[tokens, in]` times weight `[out, in]`, both of 8-bit floats, times both scales, plus bias; in `dtype`."""


class VendorProducts:
    """On the device. The cast saturates at the device's own largest number."""

    name = "hpu-fp8"

    def missing(self) -> str | None:
        return missing_op("cast_to_fp8_v2") or missing_op("fp8_gemm_v2")

    def cast(self, x: Tensor, inverse: Scale, most: float) -> Tensor:
        rounded: Tensor = op("cast_to_fp8_v2")(x, inverse, False, False, DTYPE)[0]
        return rounded

    def multiply(
        self, x: Tensor, weight: Tensor, scales: tuple[Scale, Scale], bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        out: Tensor = op("fp8_gemm_v2")(x, False, weight, True, None, dtype, *scales, bias, False)
        return out


class TorchProducts:
    """The definition: products of 8-bit floats are exact in float32, and added up there."""

    name = "hpu-fp8-torch"

    def missing(self) -> str | None:
        return None

    def cast(self, x: Tensor, inverse: Scale, most: float) -> Tensor:
        return (x.float() * inverse).clamp(-most, most).to(DTYPE)

    def multiply(
        self, x: Tensor, weight: Tensor, scales: tuple[Scale, Scale], bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        out = torch.matmul(x.float(), weight.float().t()) * scales[0] * scales[1]
        return (out if bias is None else out + bias.float()).to(dtype)
