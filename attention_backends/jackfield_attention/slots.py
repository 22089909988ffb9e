"""Where the tokens of a step live: slot = block id * block_size + offset. Slot 0, in the null block, takes padding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jackfield_platforms.attention import Layout

Ints = npt.NDArray[np.int64]


def query_lengths(layout: Layout) -> Ints:
    """Query tokens of each row, `[num_rows]`; 0 for padding rows, whatever tokens they hold."""
    start = layout.query_start[: layout.num_rows + 1].astype(np.int64)
    return np.where(layout.kv_len[: layout.num_rows] > 0, start[1:] - start[:-1], 0)


def query_slots(layout: Layout, lengths: Ints, block_size: int, num_tokens: int) -> Ints:
    """The slot of each query token, `[num_tokens]`; 0 for tokens of padding rows and for those that pad the step."""
    row = np.repeat(np.arange(layout.num_rows), lengths)
    within = np.arange(row.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    position = (layout.kv_len[: layout.num_rows] - lengths)[row] + within
    column = position // block_size
    slots = np.zeros(num_tokens, np.int64)
    slots[layout.query_start[row] + within] = (
        layout.block_table[row, column].astype(np.int64) * block_size + position - column * block_size
    )
    return slots
