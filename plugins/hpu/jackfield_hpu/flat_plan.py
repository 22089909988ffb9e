"""The flat list of blocks that decode rows read: whose each is, and where its keys stand, at sizes of the bucket.

A row may have several queries: the tokens of a draft that is verified. Prompts are planned as `gathered_plan` does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield_attention.flat_plan import ragged
from jackfield_attention.slots import query_lengths, query_slots
from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionNeed, Layout
from jackfield_platforms.bucket import Bucket

Arrays = list[npt.NDArray[np.generic]]
NOBODY = -1  # the row of an entry that pads the list, as the vendor's kernels want it


class FlatSizes(msgspec.Struct, frozen=True):
    """The static sizes of a plan."""

    rows: int
    queries: int  # a row
    entries: int
    block_size: int

    @classmethod
    def of_bucket(cls, bucket: Bucket, need: AttentionNeed, block_size: int) -> FlatSizes:
        """With a window only blocks that a query can see are listed; ValueError where nothing bounds the list."""
        queries, columns, window = bucket.query_len or 1, bucket.max_blocks, window_of(need.kv)
        if not columns:
            raise ValueError(f"A flat list of static size needs a bound on blocks; the bucket is {bucket.describe()}")
        if window is not None:
            columns = min(columns, -(-(window + queries - 1) // block_size) + 1)
        entries = bucket.num_rows * columns
        if bucket.num_blocks:
            entries = min(entries, bucket.num_blocks)
        return cls(bucket.num_rows, queries, entries, block_size)


@dataclass
class FlatPlan:
    """Tensors on the device; every shape follows from the bucket. Padding reads the null block, and is nobody's."""

    slots: Tensor  # int64 [rows * queries] where the step's tokens are written
    blocks: Tensor  # int32 [entries] blocks to read
    groups: Tensor  # int32 [entries] the row whose block it is; padding: NOBODY
    starts: Tensor  # int32 [entries] position of the block's first key
    positions: Tensor  # int32 [rows, queries] position of each query in its row; -1 where padded

    @classmethod
    def blank(cls, sizes: FlatSizes, device: torch.device) -> FlatPlan:
        """A plan that holds no row."""
        return cls(*(torch.from_numpy(array).to(device) for array in _empty(sizes)))

    def fill(self, arrays: Arrays) -> None:
        """Copy host arrays of the same shapes in."""
        for slot, array in zip(fields(self), arrays, strict=True):
            getattr(self, slot.name).copy_(torch.from_numpy(array))


def _empty(sizes: FlatSizes) -> Arrays:
    return [
        np.zeros(sizes.rows * sizes.queries, np.int64),
        np.zeros(sizes.entries, np.int32),
        np.full(sizes.entries, NOBODY, np.int32),
        np.zeros(sizes.entries, np.int32),
        np.full((sizes.rows, sizes.queries), -1, np.int32),
    ]


def flat_arrays(layout: Layout, sizes: FlatSizes, need: AttentionNeed) -> Arrays:
    """The plan's arrays for a layout; ValueError when it does not fit `sizes`."""
    new, count = query_lengths(layout), layout.num_rows
    length = layout.kv_len[:count].astype(np.int64)
    window = window_of(need.kv)
    oldest = np.zeros_like(length) if window is None else np.maximum(length - new - window + 1, 0)
    first = oldest // sizes.block_size
    row, index = ragged(-(-length // sizes.block_size) - first)
    found, room = (count, int(new.max(initial=0)), row.size), (sizes.rows, sizes.queries, sizes.entries)
    if any(have > most for have, most in zip(found, room, strict=True)):
        raise ValueError(f"The bucket holds {room} (rows, queries, blocks of all rows), the step needs {found}")
    arrays = _empty(sizes)
    _, blocks, groups, starts, positions = arrays
    arrays[0] = query_slots(layout, new, sizes.block_size, sizes.rows * sizes.queries)
    column = first[row] + index
    blocks[: row.size] = layout.block_table[row, column]
    groups[: row.size] = row
    starts[: row.size] = column * sizes.block_size
    query = np.arange(sizes.queries)
    positions[:count] = np.where(query < new[:, None], (length - new)[:, None] + query, -1)
    return arrays
