"""Rows times a weight of 8 or 4 bits, whose inputs may be cut into parts that are summed afterwards."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from jackfield_gpu.linear.product_kernels import product


@triton.jit
def weight_only_kernel(
    x, data, scale, zero, bias, out, num_rows, num_outs, in_size, padded_size, part_size, x_row, data_row, num_groups,
    group_out,
    BITS: tl.constexpr, IS_FLOAT: tl.constexpr, GROUP: tl.constexpr, HAS_ZERO: tl.constexpr, HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr, OUTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out `[parts, num_rows, num_outs]`, dense: of each part of `part_size` columns x `[num_rows, in_size]` times data.

    data is `[num_outs, padded_size]` (4 bits: half as many bytes), scale and zero are `[.., num_groups]`; `group_out`
    rows share one of these. The bias is added to the first part.
    """
    out_at = tl.program_id(0) * OUTS + tl.arange(0, OUTS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(2) * part_size
    last = tl.minimum(first + part_size, padded_size)
    w_inside, x_inside = out_at < num_outs, row < num_rows
    group_row = (out_at // group_out) * num_groups
    total = product(
        x + row.to(tl.int64) * x_row, x_inside, data + out_at.to(tl.int64) * data_row, w_inside,
        scale + group_row, zero + group_row, first, last, in_size,
        BITS, IS_FLOAT, GROUP, HAS_ZERO, ROWS, OUTS, COLUMNS,
    )  # fmt: skip
    if GROUP == 0:
        total *= tl.load(scale + group_row, mask=w_inside, other=0.0).to(tl.float32)[None, :]
    if HAS_BIAS:
        shift = tl.load(bias + out_at, mask=w_inside, other=0.0).to(tl.float32)
        total += tl.where(tl.program_id(2) == 0, shift, 0.0)[None, :]
    to = (tl.program_id(2).to(tl.int64) * num_rows + row)[:, None] * num_outs + out_at[None, :]
    tl.store(out + to, total, mask=x_inside[:, None] & w_inside[None, :])


@triton.jit
def sum_parts_kernel(parts, out, count, num_parts, BLOCK: tl.constexpr):
    """out `[count]`: the sum of `num_parts` float32 `[count]`, in their order, rounded once."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    total = tl.zeros([BLOCK], tl.float32)
    for part in range(0, num_parts):
        total += tl.load(parts + part * count + at, mask=inside, other=0.0)
    tl.store(out + at, total, mask=inside)
