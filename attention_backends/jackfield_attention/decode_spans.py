"""What the rows with one query token see, and which of them are worth gathering together. Host arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jackfield_attention.slots import Ints
from jackfield_platforms.attention import Layout

MAX_PADDING = 0.125  # of a group's real blocks


@dataclass(frozen=True)
class Spans:
    """Keys of each decode row from the start of its first block in sight, longest first. All `[rows]`."""

    rows: Ints  # in the layout
    length: Ints  # keys, the skipped ones included
    first_block: Ints | None = None  # column of the block table; None: 0, without a window
    skip: Ints | None = None  # keys of the first block that the window hides; None: 0

    @classmethod
    def of(cls, layout: Layout, rows: Ints, window: int | None, block_size: int) -> Spans:
        """The spans of `rows`."""
        kv_len = layout.kv_len[rows].astype(np.int64)
        if window is None:
            order = np.argsort(-kv_len, kind="stable")
            return cls(rows[order], kv_len[order])
        first_key = np.maximum(kv_len - window, 0)
        first_block = first_key // block_size
        length = kv_len - first_block * block_size
        order = np.argsort(-length, kind="stable")
        return cls(rows[order], length[order], first_block[order], (first_key - first_block * block_size)[order])

    def block_ids(self, layout: Layout, part: slice, blocks: int) -> npt.NDArray[np.int32]:
        """The first `blocks` blocks of each row of `part`, `[rows, blocks]`; any blocks past a row's own."""
        ids: npt.NDArray[np.int32]
        if self.first_block is None:
            ids = layout.block_table[self.rows[part], :blocks]
            return ids
        columns = self.first_block[part, None] + np.arange(blocks)
        columns = np.minimum(columns, layout.block_table.shape[1] - 1)
        ids = layout.block_table[self.rows[part, None], columns]
        return ids

    def hidden(self, part: slice, keys: int) -> npt.NDArray[np.bool_] | None:
        """Which of `keys` keys each row of `part` does not see, `[rows, last keys]`; None: it sees all.

        The keys before the last ones, as many as can be, are in every row's sight.
        """
        length = self.length[part]
        skip = None if self.skip is None or not self.skip[part].any() else self.skip[part]
        first = int(length[-1]) if skip is None else 0
        if first == keys:
            return None
        key = np.arange(first, keys)
        past: npt.NDArray[np.bool_] = key >= length[:, None]
        return past if skip is None else past | (key < skip[:, None])


def group_bounds(blocks: Ints, max_blocks: int) -> list[tuple[int, int]]:
    """Cut rows, those of most blocks first, into groups (start, stop) of at most `max_blocks` padded blocks and
    MAX_PADDING.

    A row that alone exceeds `max_blocks` is a group of its own.
    """
    starts, longest, real = [0], int(blocks[0]), 0
    for row, count in enumerate(blocks.tolist()):
        padded, real = longest * (row + 1 - starts[-1]), real + count
        if row > starts[-1] and (padded > max_blocks or padded > (1 + MAX_PADDING) * real):
            starts.append(row)
            longest = real = count
    return list(zip(starts, [*starts[1:], blocks.size], strict=True))
