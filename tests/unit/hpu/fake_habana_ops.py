"""A stand-in for the vendor's operations, on the host, as far as the plugin uses them.

They are registered with the vendor's own schemas, so that other names and arguments are refused. Sources: [bridge]
github.com/HabanaAI/gaudi-pytorch-bridge, [docs] docs.habana.ai.

    name                                described in                                   here
    torch.ops.hpu.rms_norm              [bridge] hpex/normalization/FusedRMSNorm.py    in float32
    torch.ops.hpu.rotary_pos_embedding  [bridge] hpex/kernels/RotaryPosEmbedding-      as its docstring says
                                        Helper.py
    torch.ops.hpu.block_softmax,        [bridge] tests of block_softmax;               as the tests' reference; what
      block_softmax_adjustment          vllm-project/vllm-gaudi, extension/ops.py      they leave open is NaN
    torch.ops.hpu.cast_to_fp8_v2        [bridge] schemas, tests of fp8; [docs] "Run    saturates as a Gaudi 3
    torch.ops.hpu.fp8_gemm_v2           Inference Using FP8"                           in float32
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_ALIGNED = 16  # columns of the kernel's own layout of maxima and sums

SCHEMAS = {
    "rms_norm": "(Tensor data_in, Tensor gamma, float epsilon) -> (Tensor, Tensor)",
    "rotary_pos_embedding": (
        "(Tensor input, Tensor sin, Tensor cos, Tensor? position_ids, int offset, int mode) -> Tensor"
    ),
    "block_softmax": "(Tensor attn, Tensor block_bias, Tensor block_groups) -> (Tensor, Tensor, Tensor)",
    "block_softmax_adjustment": (
        "(Tensor block_maxes, Tensor block_sums, Tensor block_groups, int batch_size, int[] out_shape) -> Tensor"
    ),
    "cast_to_fp8_v2": (
        "(Tensor input, Tensor? scale=None, bool stochastic_rounding=False, bool is_amax=False, "
        "ScalarType dtype=None, int[]? scale_shape=None) -> (Tensor, Tensor)"
    ),
    "cast_to_fp8_v2.scalar": (
        "(Tensor input, float scale, bool stochastic_rounding=False, bool is_amax=False, "
        "ScalarType dtype=None, int[]? scale_shape=None) -> (Tensor, Tensor)"
    ),
    "fp8_gemm_v2": (
        "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, Tensor? A_scale_inv=None, "
        "Tensor? B_scale_inv=None, Tensor? bias=None, bool accumulate=False, int[]? B_scale_shape=None) -> Tensor"
    ),
    "fp8_gemm_v2.scalar": (
        "(Tensor A, bool trans_A, Tensor B, bool trans_B, Tensor? D, ScalarType out_dtype, float A_scale_inv, "
        "float B_scale_inv, Tensor? bias=None, bool accumulate=False, int[]? B_scale_shape=None) -> Tensor"
    ),
}


def rms_norm(data_in: Tensor, gamma: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    inverse = torch.rsqrt(data_in.float().square().mean(-1, keepdim=True) + epsilon)
    return (data_in.float() * inverse * gamma.float()).to(data_in.dtype), inverse


def rotary_pos_embedding(
    input: Tensor, sin: Tensor, cos: Tensor, position_ids: Tensor | None, offset: int, mode: int
) -> Tensor:
    assert position_ids is None
    assert offset == 0
    assert input.dtype == sin.dtype == cos.dtype
    assert sin.shape[-1] == input.shape[-1]
    if mode == 0:
        first, second = input.chunk(2, -1)
        turned = torch.cat((-second, first), -1)
    else:
        turned = torch.stack((-input[..., 1::2], input[..., ::2]), -1).flatten(-2)
    return input * cos + turned * sin


def block_softmax(attn: Tensor, block_bias: Tensor, block_groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    assert attn.dim() == block_bias.dim() == 5
    assert attn.dtype == block_bias.dtype
    assert attn.dtype in (torch.bfloat16, torch.float32)
    assert block_groups.dtype == torch.int32
    scores = (attn + block_bias).float()
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top).exp()
    owned = (block_groups != -1).view(-1, 1, 1, 1, 1)
    weights = torch.where(owned, weights, 0)
    flat = [torch.where(owned, x, math.nan).flatten(1).to(attn.dtype) for x in (top, weights.sum(-1, keepdim=True))]
    room = -(-flat[0].shape[1] // _ALIGNED) * _ALIGNED
    top, sums = (nn.functional.pad(x, (0, room - x.shape[1]), value=math.nan) for x in flat)
    return weights.to(attn.dtype), top, sums


def block_softmax_adjustment(
    block_maxes: Tensor, block_sums: Tensor, block_groups: Tensor, batch_size: int, out_shape: list[int]
) -> Tensor:
    assert block_maxes.dim() == 2
    count = math.prod(out_shape[1:])
    top, sums = block_maxes[:, :count].float(), block_sums[:, :count].float()
    out = torch.full_like(top, math.nan)
    for row in range(batch_size):
        mine = block_groups == row
        if mine.any():
            peak = top[mine].amax(0)
            share = (top[mine] - peak).exp()
            out[mine] = share / (share * sums[mine]).sum(0)
    return out.view(out_shape).to(block_maxes.dtype)


def cast_to_fp8_v2(
    input: Tensor,
    scale: Tensor | float | None = None,
    stochastic_rounding: bool = False,
    is_amax: bool = False,
    dtype: torch.dtype | None = None,
    scale_shape: list[int] | None = None,
) -> tuple[Tensor, Tensor]:
    assert (stochastic_rounding, is_amax, scale_shape) == (False, False, None)
    assert dtype is torch.float8_e4m3fn
    numbers = input.float() if scale is None else input.float() * scale
    most = torch.finfo(dtype).max
    return numbers.clamp(-most, most).to(dtype), torch.empty(0)


def fp8_gemm_v2(
    A: Tensor,  # noqa: N803
    trans_A: bool,  # noqa: N803
    B: Tensor,  # noqa: N803
    trans_B: bool,  # noqa: N803
    D: Tensor | None,  # noqa: N803
    out_dtype: torch.dtype,
    A_scale_inv: Tensor | float | None = None,  # noqa: N803
    B_scale_inv: Tensor | float | None = None,  # noqa: N803
    bias: Tensor | None = None,
    accumulate: bool = False,
    B_scale_shape: list[int] | None = None,  # noqa: N803
) -> Tensor:
    assert A.dtype == B.dtype == torch.float8_e4m3fn
    assert (D, accumulate, B_scale_shape) == (None, False, None)
    left, right = (x.float().mT if turned else x.float() for x, turned in ((A, trans_A), (B, trans_B)))
    out = left @ right
    for scale in (A_scale_inv, B_scale_inv):
        out = out if scale is None else out * scale
    return (out if bias is None else out + bias.float()).to(out_dtype)


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """`torch.ops.hpu` holds the operations of `SCHEMAS` meanwhile."""
    library = torch.library.Library("hpu", "DEF")
    try:
        for name, schema in SCHEMAS.items():
            library.define(f"{name}{schema}")
            library.impl(name, globals()[name.partition(".")[0]], "CompositeExplicitAutograd")
        yield
    finally:
        library._destroy()
