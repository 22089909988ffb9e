"""8-bit activations: rows rounded to 8-bit floats, and their product with weights that are 8-bit floats too."""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def round_rows_kernel(x, out, scale, width, x_row, most, GROUP: tl.constexpr):
    """out `[rows, width]` 8-bit floats, dense; scale `[rows, ceil(width / GROUP)]`: x = out * scale.

    A program takes `GROUP` numbers of a row, whose largest magnitude becomes `most`, the format's largest.
    """
    row, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = group * GROUP + tl.arange(0, GROUP)
    inside = column < width
    number = tl.load(x + row * x_row + column, mask=inside, other=0.0).to(tl.float32)
    step = tl.maximum(tl.max(tl.abs(number), 0) / most, 1e-30)  # a group of zeros
    rounded = tl.minimum(tl.maximum(number / step, -most), most)
    tl.store(out + row * width + column, rounded.to(out.dtype.element_ty), mask=inside)
    tl.store(scale + row * tl.num_programs(1) + group, step)


@triton.jit
def scaled_product_kernel(
    x, data, x_scale, scale, bias, out, num_rows, num_outs, in_size, num_groups, group_out,
    GROUP: tl.constexpr, HAS_BIAS: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out `[num_rows, num_outs]`: 8-bit floats x `[num_rows, in_size]` times data `[num_outs, in_size]`, all dense.

    `GROUP` columns have a scale each in x_scale `[num_rows, num_groups]` and, for each `group_out` rows, in scale
    `[.., num_groups]`; 0: each row has one scale. float32 sums.
    """
    out_at = tl.program_id(0) * OUTS + tl.arange(0, OUTS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    w_inside, x_inside = out_at < num_outs, row < num_rows
    x_rows = x + row.to(tl.int64) * in_size
    w_rows = data + out_at.to(tl.int64) * in_size
    x_steps = x_scale + row * num_groups
    w_steps = scale + (out_at // group_out) * num_groups
    total = tl.zeros([ROWS, OUTS], tl.float32)
    for start in range(0, in_size, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        known = column < in_size
        first = tl.load(x_rows[:, None] + column[None, :], mask=x_inside[:, None] & known[None, :], other=0.0)
        second = tl.load(w_rows[None, :] + column[:, None], mask=w_inside[None, :] & known[:, None], other=0.0)
        if GROUP == 0:
            total = tl.dot(first, second, total)
        else:
            part = tl.dot(first, second)
            left = tl.load(x_steps + start // GROUP, mask=x_inside, other=0.0)
            right = tl.load(w_steps + start // GROUP, mask=w_inside, other=0.0)
            total += part * left[:, None] * right[None, :]
    if GROUP == 0:
        left = tl.load(x_steps, mask=x_inside, other=0.0)
        right = tl.load(w_steps, mask=w_inside, other=0.0)
        total *= left[:, None] * right[None, :]
    if HAS_BIAS:
        total += tl.load(bias + out_at, mask=w_inside, other=0.0).to(tl.float32)[None, :]
    to = row.to(tl.int64)[:, None] * num_outs + out_at[None, :]
    tl.store(out + to, total, mask=x_inside[:, None] & w_inside[None, :])
