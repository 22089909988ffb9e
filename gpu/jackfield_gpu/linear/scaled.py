"""Linear layers that round their activations to 8-bit floats too (W8A8), where a user asks for it.

Most formats say how weights are written, and nothing of activations; where one does, leaving them as they are loses
less. So this comes first only where JACKFIELD_GPU_FP8_ACTIVATIONS is 1, and is not what the conformance kit checks.
"""

from __future__ import annotations

import os

import msgspec
import torch
from torch import Tensor

from jackfield_attention.triton.tiles import power_of_two
from jackfield_gpu.arch import Arch
from jackfield_gpu.linear.scaled_kernels import round_rows_kernel, scaled_product_kernel
from jackfield_gpu.linear.tiles import Tile
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, torch_dtype

SWITCH = "JACKFIELD_GPU_FP8_ACTIVATIONS"
BLOCK = 128  # numbers of a row that share a scale where the weight's blocks are as wide
ALIGNMENT = 16  # of both sizes, for torch's product
FEW_ROWS, MANY_ROWS = Tile(16, 64, 128, 4, 4), Tile(128, 128, 64, 8, 3)
_FEW = 16
_BIAS_DTYPE = torch.bfloat16  # what torch's product of scaled rows writes


def rounds_activations() -> bool:
    """Whether the user asked for 8-bit activations. ValueError for what is neither 0 nor 1."""
    value = os.environ.get(SWITCH, "0")
    if value not in ("0", "1"):
        raise ValueError(f"{SWITCH} must be 0 or 1; got {value!r}")
    return value == "1"


class Float8Weight(msgspec.Struct, frozen=True, eq=False):
    """A weight in the device's own 8-bit floats. `group` 0: a scale a row; else blocks of `group_out` x `group`."""

    data: Tensor  # [out, in]
    scale: Tensor  # float32 [ceil(out / group_out), ceil(in / group)], of rows [out, 1]
    bias: Tensor | None
    group: int
    group_out: int


class ScaledFloat8Linear:
    """`torch._scaled_mm` where scales belong to rows, and a Triton product where they belong to blocks."""

    name = "fp8-activations"

    def __init__(self, arch: Arch) -> None:
        self._arch = arch

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if self._arch.fp8 is None:
            return f"{self._arch.name} multiplies no 8-bit floats"
        if (encoding.kind, encoding.bits) != ("float", 8) or encoding.scale is None:
            return f"multiplies 8-bit floats with scales, not {encoding.describe()}"
        if encoding.group not in (None, BLOCK):
            return f"rounds activations by rows or by {BLOCK}, and the weight has {encoding.describe()}"
        if layer.gathers:
            return "keeps no weight to read row by row (tied embedding)"
        if layer.in_size % ALIGNMENT or layer.out_size % ALIGNMENT:
            return f"sizes must be multiples of {ALIGNMENT}; they are {layer.in_size} and {layer.out_size}"
        return None

    def pack(self, encoded: Encoded) -> Float8Weight:
        assert encoded.scale is not None, "rejected"
        assert self._arch.fp8 is not None, "rejected"
        encoding, out_size = encoded.encoding, encoded.data.shape[0]
        data, factor = own_floats(encoded.data, self._arch.fp8)
        scale, group_out = encoded.scale.float() * factor, encoding.group_out
        if encoding.group is None and group_out > 1:  # blocks of whole rows, or one scale for all
            scale, group_out = scale.repeat_interleave(group_out, dim=0)[:out_size], 1
        return Float8Weight(data.contiguous(), scale.contiguous(), encoded.bias, encoding.group or 0, group_out)

    def apply(self, x: Tensor, packed: Float8Weight) -> Tensor:
        if not len(x):
            return x.new_empty(0, len(packed.data))
        rounded, scale = round_rows(x, packed.group, packed.data.dtype)
        if packed.group or x.dtype != _BIAS_DTYPE or x.device.type == "cpu":
            return scaled_product(rounded, scale, packed, x.dtype)
        out: Tensor = torch._scaled_mm(
            rounded,
            packed.data.t(),
            scale_a=scale,
            scale_b=packed.scale.t(),
            bias=packed.bias,
            out_dtype=x.dtype,
        )
        return out

    def rows(self, packed: Float8Weight, ids: Tensor) -> Tensor:
        raise AssertionError("rejected for layers that are read by rows")


def own_floats(data: Tensor, dtype: str) -> tuple[Tensor, float]:
    """e4m3fn numbers in the device's dtype, and what they must be multiplied by to be what they were.

    e4m3fnuz has the same bits but for the bias, one more: a number is half of what it was. Its code of -0 is no number.
    """
    if dtype == "float8_e4m3fn":
        return data, 1.0
    bits = data.view(torch.uint8)
    return bits.masked_fill(bits == 128, 0).view(torch_dtype(dtype)), 2.0


def round_rows(x: Tensor, group: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x `[rows, in]` as 8-bit floats, and scales `[rows, ceil(in / group)]`; `group` 0: one a row."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    rows, width = x.shape
    size = group or power_of_two(width)
    groups = -(-width // size)
    out = torch.empty(rows, width, dtype=dtype, device=x.device)
    scale = torch.empty(rows, groups, dtype=torch.float32, device=x.device)
    most = torch.finfo(dtype).max
    round_rows_kernel[(rows, groups)](x, out, scale, width, x.stride(0), most, GROUP=size, num_warps=1 if group else 8)
    return out, scale


def scaled_product(x: Tensor, x_scale: Tensor, weight: Float8Weight, dtype: torch.dtype) -> Tensor:
    """The Triton product, `[rows, out]` in `dtype`."""
    (rows, in_size), outs = x.shape, len(weight.data)
    out = torch.empty(rows, outs, dtype=dtype, device=x.device)
    tile = FEW_ROWS if rows <= _FEW else MANY_ROWS
    scaled_product_kernel[(-(-outs // tile.outs), -(-rows // tile.rows))](
        x, weight.data, x_scale, weight.scale, weight.scale if weight.bias is None else weight.bias, out,
        rows, outs, in_size, x_scale.shape[1], weight.group_out,
        GROUP=weight.group, HAS_BIAS=weight.bias is not None,
        ROWS=tile.rows, OUTS=tile.outs, COLUMNS=tile.columns,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
    return out
