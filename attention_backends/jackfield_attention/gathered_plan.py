"""The static gather: which blocks each row reads, and which of their keys it sees, at sizes that the bucket fixes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield_attention.cache import head_rows
from jackfield_attention.slots import query_lengths, query_slots
from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionNeed, Layout
from jackfield_platforms.bucket import Bucket

Arrays = list[npt.NDArray[np.generic]]


class GatheredSizes(msgspec.Struct, frozen=True):
    """The static sizes of a plan."""

    rows: int
    queries: int  # a row
    columns: int  # blocks that are gathered for a row
    table: int  # blocks that a row may have
    kv_heads: int
    block_size: int

    @classmethod
    def of_bucket(cls, bucket: Bucket, need: AttentionNeed, block_size: int) -> GatheredSizes:
        """With a window only as many blocks are gathered as its queries can see; ValueError for ragged rows."""
        queries = bucket.query_len or (1 if bucket.phase == "decode" else 0)
        if not queries or not bucket.max_blocks:
            raise ValueError(
                f"A gather of static size needs rows that are padded to one query length, and a bound on their blocks; "
                f"the bucket is {bucket.describe()}. Plan buckets with query_len and max_blocks, or serve with "
                f"flat-blocks"
            )
        window, columns = window_of(need.kv), bucket.max_blocks
        if window is not None:
            columns = min(columns, -(-(window + queries - 1) // block_size) + 1)
        return cls(bucket.num_rows, queries, columns, bucket.max_blocks, need.kv.kv_heads, block_size)


@dataclass
class GatheredPlan:
    """Tensors on the device; every shape follows from the bucket. Padding reads the null block, and sees nothing."""

    written: Tensor  # int64 [rows * queries * kv_heads] flat cache rows of the query tokens
    blocks: Tensor  # int32 [rows * columns] blocks to read
    first: Tensor  # int32 [rows] position of the first gathered key
    sight: Tensor  # int32 [rows, 2] the keys that some query of the row sees: from, up to
    positions: Tensor  # int32 [rows, queries] position of each query in its row; -1 where padded

    @classmethod
    def blank(cls, sizes: GatheredSizes, device: torch.device) -> GatheredPlan:
        """A plan that holds no row."""
        return cls(*(torch.from_numpy(array).to(device) for array in _empty(sizes)))

    def fill(self, arrays: Arrays) -> None:
        """Copy host arrays of the same shapes in."""
        for slot, array in zip(fields(self), arrays, strict=True):
            getattr(self, slot.name).copy_(torch.from_numpy(array))


def _empty(sizes: GatheredSizes) -> Arrays:
    return [
        np.zeros(sizes.rows * sizes.queries * sizes.kv_heads, np.int64),
        np.zeros(sizes.rows * sizes.columns, np.int32),
        np.zeros(sizes.rows, np.int32),
        np.zeros((sizes.rows, 2), np.int32),
        np.full((sizes.rows, sizes.queries), -1, np.int32),
    ]


def gathered_arrays(layout: Layout, sizes: GatheredSizes, need: AttentionNeed) -> Arrays:
    """The plan's arrays for a layout; ValueError when it does not fit `sizes`."""
    new, count = query_lengths(layout), layout.num_rows
    length = layout.kv_len[:count].astype(np.int64)
    window = window_of(need.kv)
    oldest = np.zeros_like(length) if window is None else np.maximum(length - new - window + 1, 0)
    column = oldest // sizes.block_size
    blocks = -(-length // sizes.block_size)
    found = (count, int(new.max(initial=0)), int(blocks.max(initial=0)))
    room = (sizes.rows, sizes.queries, sizes.table)
    if any(have > most for have, most in zip(found, room, strict=True)):
        raise ValueError(f"The bucket holds {room} (rows, queries, blocks a row), the step needs {found}")
    arrays = _empty(sizes)
    _, gathered, first, sight, positions = arrays
    slots = query_slots(layout, new, sizes.block_size, sizes.rows * sizes.queries)
    arrays[0] = head_rows(slots, sizes.kv_heads, sizes.block_size).ravel()
    columns = column[:, None] + np.arange(sizes.columns)
    read = np.take_along_axis(layout.block_table[:count], np.minimum(columns, layout.block_table.shape[1] - 1), axis=1)
    # what lies past a row's end may be anybody's: the null block is read once for all of them
    gathered.reshape(sizes.rows, -1)[:count] = np.where(columns < blocks[:, None], read, 0)
    first[:count] = column * sizes.block_size
    sight[:count, 0], sight[:count, 1] = oldest, length
    query = np.arange(sizes.queries)
    positions[:count] = np.where(query < new[:, None], (length - new)[:, None] + query, -1)
    return arrays
