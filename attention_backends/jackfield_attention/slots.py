"""Where the tokens of a step live: slot = block id * block_size + offset. Slot 0, in the null block, takes padding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jackfield_platforms.attention import Layout

Ints = npt.NDArray[np.int64]


def query_lengths(layout: Layout) -> Ints:
    """Query tokens of each real row, `[num_rows]`."""
    return layout.num_new[: layout.num_rows].astype(np.int64)


def is_decode(layout: Layout) -> bool:
    """Whether every row is real and has one query token: the common step, which has shorter ways."""
    return layout.num_tokens == layout.num_rows == layout.kv_len.size and bool(layout.kv_len.all())


def decode_head_rows(layout: Layout, head_starts: Ints, block_size: int) -> Ints:
    """Flat rows `[num_rows, kv_heads]` (`cache.head_rows` of `query_slots`) of a step in which `is_decode`.

    `head_starts` `[kv_heads]` are the flat rows of a block's heads, from the block's own first row.
    """
    position = layout.kv_len - 1
    column = position // block_size
    block = layout.block_table[np.arange(layout.num_rows), column].astype(np.int64)
    first = block * (head_starts.size * block_size) + (position - column * block_size)
    rows: Ints = first[:, None] + head_starts
    return rows


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
