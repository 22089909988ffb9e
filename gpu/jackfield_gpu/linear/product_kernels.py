"""What the kernels of linear layers and of experts share: rows times a stretch of a weight's columns.

A weight's numbers are `(data - zero) * scale`. They are exact in the activations' dtype before they are scaled: ints of
8 bits and 8-bit floats have few bits. So each product is summed in float32 unscaled, and each group's sum is scaled
once.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from jackfield_attention.triton.float8_kernels import widened

E4M3FN = tl.constexpr(1)


@triton.jit
def product(
    x_rows, x_inside, w_rows, w_inside, scale_rows, zero_rows, first, last, in_size,
    BITS: tl.constexpr, IS_FLOAT: tl.constexpr, GROUP: tl.constexpr, HAS_ZERO: tl.constexpr,
    ROWS: tl.constexpr, OUTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """float32 `[ROWS, OUTS]`: the sum over columns `first` to `last`, which are multiples of `COLUMNS`.

    The pointers are to the starts of rows, `[ROWS]` and `[OUTS]`, and `_inside` masks them. `BITS` 16 stands for plain
    floats of any width. `GROUP` columns share a scale and, if `HAS_ZERO`, a zero point; 0: a row has one scale, by
    which the caller multiplies. 4-bit rows hold, for each `COLUMNS` columns, half of them in the low nibbles of bytes
    side by side, and the other half in the high ones. 8- and 4-bit rows are padded to a multiple of `COLUMNS`.
    """
    total = tl.zeros([ROWS, OUTS], tl.float32)
    for start in range(first, last, COLUMNS):
        group = start // GROUP if GROUP > 0 else 0
        part = total if GROUP == 0 else tl.zeros([ROWS, OUTS], tl.float32)
        zero = tl.zeros([OUTS], tl.float32)
        if BITS == 4:
            zero += 8.0
        if HAS_ZERO:
            zero = tl.load(zero_rows + group, mask=w_inside, other=0).to(tl.float32)
        if BITS == 4:
            half = tl.arange(0, COLUMNS // 2)
            low_at = start + half
            high_at = start + COLUMNS // 2 + half
            data = tl.load(w_rows[None, :] + (start // 2 + half)[:, None], mask=w_inside[None, :], other=0)
            low = (data & 15).to(tl.float32) - zero[None, :]
            high = (data >> 4).to(tl.float32) - zero[None, :]
            x_low = tl.load(
                x_rows[:, None] + low_at[None, :], mask=x_inside[:, None] & (low_at < in_size)[None, :], other=0.0
            )
            x_high = tl.load(
                x_rows[:, None] + high_at[None, :], mask=x_inside[:, None] & (high_at < in_size)[None, :], other=0.0
            )
            part = tl.dot(x_low, low.to(x_low.dtype), part, input_precision="ieee")
            part = tl.dot(x_high, high.to(x_high.dtype), part, input_precision="ieee")
        else:
            column = start + tl.arange(0, COLUMNS)
            x = tl.load(
                x_rows[:, None] + column[None, :], mask=x_inside[:, None] & (column < in_size)[None, :], other=0.0
            )
            if BITS == 8:
                data = tl.load(w_rows[None, :] + column[:, None], mask=w_inside[None, :], other=0)
                if IS_FLOAT:
                    numbers = widened(data, E4M3FN)
                else:
                    numbers = data.to(tl.float32)
                if HAS_ZERO:
                    numbers -= zero[None, :]
                weight = numbers.to(x.dtype)
            else:
                weight = tl.load(
                    w_rows[None, :] + column[:, None],
                    mask=w_inside[None, :] & (column < in_size)[:, None], other=0.0,
                )  # fmt: skip
            part = tl.dot(x, weight, part, input_precision="ieee")
        if GROUP == 0:
            total = part
        else:
            scale = tl.load(scale_rows + group, mask=w_inside, other=0.0).to(tl.float32)
            total += part * scale[None, :]
    return total
