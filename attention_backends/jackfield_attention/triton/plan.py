"""What the kernels read of a step: one int32 buffer on the device, filled by one copy, cut by the bucket alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from jackfield_attention.flat_plan import ragged
from jackfield_attention.slots import query_lengths, query_slots
from jackfield_attention.triton.grid import Grid
from jackfield_attention.triton.staging import Int32s
from jackfield_platforms.attention import Layout

ALIGNED = 16  # int32 numbers: every part starts at a whole cache line, and so has one alignment in every bucket
NO_QUERY = 1 << 30  # the first query of a tile that no row has


class PlanSizes(msgspec.Struct, frozen=True):
    """Of a plan's parts, in int32 numbers."""

    rows: int
    tokens: int
    tiles: int
    columns: int  # of the block table, at most

    @property
    def parts(self) -> dict[str, int]:
        """Parts of the buffer in order, each with its size. The table is last: what a step does not need of it is not
        copied.
        """
        return {
            "columns": 1,
            "query_start": self.rows,
            "num_new": self.rows,
            "kv_len": self.rows,
            "tile_row": self.tiles,
            "tile_first": self.tiles,
            "slots": self.tokens,
            "table": self.rows * self.columns,
        }

    @property
    def starts(self) -> dict[str, int]:
        """Where each part begins; under "end", how long the buffer is."""
        starts, at = {}, 0
        for name, size in self.parts.items():
            starts[name] = at
            at += -(-max(size, 1) // ALIGNED) * ALIGNED
        return {**starts, "end": at}


@dataclass
class TritonPlan:
    """One step on the device. All tensors are views of `numbers`; shapes and `grid` follow from the bucket."""

    grid: Grid
    sizes: PlanSizes
    numbers: Tensor  # int32
    starts: dict[str, int]  # of the parts, and the end
    columns: Tensor  # [1] row stride of `table` in this step
    query_start: Tensor  # [rows]
    num_new: Tensor  # [rows]
    kv_len: Tensor  # [rows]
    tile_row: Tensor  # [tiles] row of each tile of queries
    tile_first: Tensor  # [tiles] its first query in the row; NO_QUERY: there is no such tile
    slots: Tensor  # [tokens] where keys and values are written: block * block_size + offset
    table: Tensor  # [rows * columns] blocks
    number: int = 0  # by which a traced operator finds it

    @classmethod
    def blank(cls, grid: Grid, sizes: PlanSizes, device: torch.device) -> TritonPlan:
        """A plan that holds no row."""
        starts = sizes.starts
        numbers = torch.zeros(starts["end"], dtype=torch.int32, device=device)
        views: dict[str, Any] = {
            name: numbers[starts[name] : starts[name] + size] for name, size in sizes.parts.items()
        }
        return cls(grid, sizes, numbers, starts, **views)

    def take(self, other: TritonPlan) -> None:
        """Become `other`, where the bucket leaves sizes open."""
        for name, value in vars(other).items():
            if name != "number":
                setattr(self, name, value)


def fill(numbers: Int32s, layout: Layout, plan: TritonPlan, block_size: int) -> int:
    """Write a layout as `plan` wants it; how many of the numbers must be copied. ValueError when it does not fit."""
    sizes, starts, queries, rows = plan.sizes, plan.starts, plan.grid.queries, layout.num_rows
    lengths = query_lengths(layout)
    row, index = ragged(-(-lengths // queries))
    columns = -(-int(layout.kv_len[:rows].max(initial=0)) // block_size)
    found = (rows, layout.num_tokens, row.size, columns)
    room = (sizes.rows, sizes.tokens, sizes.tiles, sizes.columns)
    if any(have > most for have, most in zip(found, room, strict=True)):
        raise ValueError(f"The bucket holds {room} (rows, tokens, tiles, blocks a row), the step needs {found}")

    def part(name: str, size: int) -> Int32s:
        return numbers[starts[name] : starts[name] + size]

    part("columns", 1)[0] = columns
    part("query_start", rows)[:] = layout.query_start[:rows]
    part("num_new", sizes.rows)[rows:] = 0
    part("num_new", rows)[:] = lengths
    part("kv_len", rows)[:] = layout.kv_len[:rows]
    # the last tiles have the most keys behind them: they come first, so that none is left alone at the end
    part("tile_row", row.size)[:] = row[::-1]
    part("tile_first", sizes.tiles)[row.size :] = NO_QUERY
    part("tile_row", sizes.tiles)[row.size :] = 0
    part("tile_first", row.size)[:] = index[::-1] * queries
    part("slots", sizes.tokens)[:] = query_slots(layout, lengths, block_size, sizes.tokens)
    part("table", rows * columns).reshape(rows, columns)[:] = layout.block_table[:rows, :columns]
    return starts["table"] + rows * columns


def as_array(host: Tensor) -> Int32s:
    """A host tensor's memory."""
    array: Int32s = np.asarray(host.numpy())
    return array
