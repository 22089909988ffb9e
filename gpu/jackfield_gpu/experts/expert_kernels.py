"""Products over the weights of all experts: each program takes a tile of rows that go to one expert.

Weights of different experts need not be neighbours: a table says how far each lies from the first, in numbers. A tile
finds its expert in `blocks`, which counts tiles up to each expert; tiles beyond the last one end at once.
"""

# mypy: ignore-errors
from __future__ import annotations

import triton
import triton.language as tl

from jackfield_gpu.linear.product_kernels import product


@triton.jit
def tile_rows(starts, blocks, num_experts, EXPERTS: tl.constexpr, ROWS: tl.constexpr):
    """This program's expert (`num_experts`: none), the places of its rows among the sorted pairs, a mask."""
    tile = tl.program_id(1)
    every = tl.arange(0, EXPERTS)
    ends = tl.load(blocks + every, mask=every < num_experts, other=2147483647)
    expert = tl.sum((ends <= tile).to(tl.int32), 0)
    known = expert < num_experts
    before = tl.load(blocks + expert - 1, mask=known & (expert > 0), other=0)
    first = tl.load(starts + expert, mask=known, other=0)
    last = tl.load(starts + expert + 1, mask=known, other=0)
    place = first + (tile - before) * ROWS + tl.arange(0, ROWS)
    return expert, place, place < last


@triton.jit
def gate_up_kernel(
    x, data, offsets, scale, scale_offsets, zero, zero_offsets, order, starts, blocks, out,
    num_experts, top, inner, in_size, padded_size, x_row, data_row, num_groups, group_out,
    BITS: tl.constexpr, IS_FLOAT: tl.constexpr, GROUP: tl.constexpr, HAS_ZERO: tl.constexpr, EXPERTS: tl.constexpr,
    ROWS: tl.constexpr, OUTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out `[pairs, inner]`, sorted: silu(gate) * up of each pair's token, x `[tokens, in_size]`."""
    expert, place, is_row = tile_rows(starts, blocks, num_experts, EXPERTS, ROWS)
    if expert < num_experts:
        at = tl.program_id(0) * OUTS + tl.arange(0, OUTS)
        inside = at < inner
        token = tl.load(order + place, mask=is_row, other=0) // top
        x_rows = x + token * x_row
        mine = data + tl.multiple_of(tl.load(offsets + expert), 16)
        steps = scale + tl.load(scale_offsets + expert)
        zeros = zero + tl.load(zero_offsets + expert) if HAS_ZERO else steps
        gate_group, up_group = (at // group_out) * num_groups, ((at + inner) // group_out) * num_groups
        gate = product(
            x_rows, is_row, mine + at.to(tl.int64) * data_row, inside, steps + gate_group, zeros + gate_group,
            0, padded_size, in_size, BITS, IS_FLOAT, GROUP, HAS_ZERO, ROWS, OUTS, COLUMNS,
        )  # fmt: skip
        up = product(
            x_rows, is_row, mine + (at + inner).to(tl.int64) * data_row, inside, steps + up_group, zeros + up_group,
            0, padded_size, in_size, BITS, IS_FLOAT, GROUP, HAS_ZERO, ROWS, OUTS, COLUMNS,
        )  # fmt: skip
        if BITS != 16 and GROUP == 0:
            gate *= tl.load(steps + gate_group, mask=inside, other=0.0).to(tl.float32)[None, :]
            up *= tl.load(steps + up_group, mask=inside, other=0.0).to(tl.float32)[None, :]
        to = place.to(tl.int64)[:, None] * inner + at[None, :]
        tl.store(out + to, gate * tl.sigmoid(gate) * up, mask=is_row[:, None] & inside[None, :])


@triton.jit
def down_kernel(
    x, data, offsets, scale, scale_offsets, zero, zero_offsets, order, starts, blocks, out,
    num_experts, num_outs, in_size, padded_size, data_row, num_groups, group_out,
    BITS: tl.constexpr, IS_FLOAT: tl.constexpr, GROUP: tl.constexpr, HAS_ZERO: tl.constexpr, EXPERTS: tl.constexpr,
    ROWS: tl.constexpr, OUTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """out `[pairs, num_outs]`, by pair: the product of each sorted row of x `[pairs, in_size]`."""
    expert, place, is_row = tile_rows(starts, blocks, num_experts, EXPERTS, ROWS)
    if expert < num_experts:
        at = tl.program_id(0) * OUTS + tl.arange(0, OUTS)
        inside = at < num_outs
        pair = tl.load(order + place, mask=is_row, other=0)
        mine = data + tl.multiple_of(tl.load(offsets + expert), 16)
        steps = scale + tl.load(scale_offsets + expert)
        zeros = zero + tl.load(zero_offsets + expert) if HAS_ZERO else steps
        group_row = (at // group_out) * num_groups
        total = product(
            x + place.to(tl.int64) * in_size, is_row, mine + at.to(tl.int64) * data_row, inside,
            steps + group_row, zeros + group_row, 0, padded_size, in_size,
            BITS, IS_FLOAT, GROUP, HAS_ZERO, ROWS, OUTS, COLUMNS,
        )  # fmt: skip
        if BITS != 16 and GROUP == 0:
            total *= tl.load(steps + group_row, mask=inside, other=0.0).to(tl.float32)[None, :]
        to = pair[:, None] * num_outs + at[None, :]
        tl.store(out + to, total, mask=is_row[:, None] & inside[None, :])


@triton.jit
def combine_kernel(products, share, out, width, TOP: tl.constexpr, BLOCK: tl.constexpr):
    """out `[tokens, width]`: each token's products `[tokens, TOP, width]` added by their shares, rounded once."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    total = tl.zeros([BLOCK], tl.float32)
    for place in range(0, TOP):
        pair = token * TOP + place
        number = tl.load(products + pair * width + column, mask=inside, other=0.0).to(tl.float32)
        total += number * tl.load(share + pair)
    tl.store(out + token * width + column, total, mask=inside)
