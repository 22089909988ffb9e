"""Host buffers of one launch: allocated once, filled with a few vectorised writes a step, copied to the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield.engine.step import SAMPLED_LAST, Step
from jackfield_platforms.attention import Layout
from jackfield_platforms.bucket import Placement

Int64s = npt.NDArray[np.int64]
Tables = Sequence[npt.NDArray[np.int32]]  # one a KV group, [slots, blocks]


class Filled(msgspec.Struct, frozen=True, eq=False):
    """One launch on the host. Everything but `layouts` is a view of the buffers, valid until they are filled again."""

    tokens: Tensor  # [bucket.num_tokens] int64
    positions: Tensor  # [bucket.num_tokens] int64
    sample_rows: Tensor  # [sampling rows] int64, places of tokens
    sampled_last: Tensor  # [rows that continue] int64, places of tokens
    sampled_last_slots: Tensor  # [rows that continue] int64
    layouts: tuple[Layout, ...]  # one a KV group


class StepBuffers:
    """One set of buffers.

    As many sets are needed as steps may be in flight, so that none is overwritten while it is read.
    """

    def __init__(self, max_tokens: int, tables: Tables, *, pinned: bool) -> None:
        max_rows = tables[0].shape[0]

        def buffer(*shape: int, dtype: torch.dtype) -> Any:
            return torch.zeros(shape, dtype=dtype, pin_memory=pinned).numpy()

        self._tokens = buffer(max_tokens, dtype=torch.int64)
        self._positions = buffer(max_tokens, dtype=torch.int64)
        self._sample_rows = buffer(max_rows, dtype=torch.int64)
        self._continued = buffer(2, max_rows, dtype=torch.int64)
        self._query_start = buffer(max_rows + 1, dtype=torch.int32)
        self._one_each = np.arange(max_rows + 1, dtype=np.int32)  # query_start when every row has one token
        self._places = buffer(max_rows, dtype=torch.int64)
        self._places[:] = self._one_each[:-1]
        self._kv_len = buffer(max_rows, dtype=torch.int32)
        self._tables = [buffer(*table.shape, dtype=torch.int32) for table in tables]

    def fill(self, step: Step, placement: Placement, tables: Tables, block_sizes: Sequence[int]) -> Filled:
        """Write the rows that `placement` names; entries that pad its bucket are token 0 at position 0 of no row."""
        if _is_steady(step, placement):
            return self._fill_steady(step, placement, tables, block_sizes)
        first, last = placement.rows
        num_rows, padded = last - first, placement.bucket.num_tokens
        num_new, num_computed = step.num_new[first:last], step.num_computed[first:last]
        slots = step.slots[first:last]
        query_start = self._query_start[: num_rows + 1]
        np.cumsum(num_new, out=query_start[1:])
        num_tokens = int(query_start[num_rows])
        begin = int(step.num_new[:first].sum())
        ids = step.tokens[begin : begin + num_tokens]

        self._tokens[:num_tokens] = ids
        self._tokens[num_tokens:padded] = 0
        self._positions[:num_tokens] = _positions(query_start, num_computed, num_new, num_tokens)
        self._positions[num_tokens:padded] = 0
        ends = query_start[1:][step.samples[first:last]]
        sample_rows = self._sample_rows[: len(ends)]
        np.subtract(ends, 1, out=sample_rows)
        continued = self._continue(ids, slots, min(max(step.num_decode - first, 0), num_rows))
        return Filled(
            tokens=torch.from_numpy(self._tokens[:padded]),
            positions=torch.from_numpy(self._positions[:padded]),
            sample_rows=torch.from_numpy(sample_rows),
            sampled_last=torch.from_numpy(continued[0]),
            sampled_last_slots=torch.from_numpy(continued[1]),
            layouts=self._layouts(placement, (slots, num_computed + num_new, query_start), tables, block_sizes),
        )

    def _fill_steady(self, step: Step, placement: Placement, tables: Tables, block_sizes: Sequence[int]) -> Filled:
        """The step that is run most: every row continues by one token and samples the next."""
        num_rows = step.num_rows
        self._positions[:num_rows] = step.num_computed
        slots = self._continued[1, :num_rows]
        slots[:] = step.slots
        places = torch.from_numpy(self._places[:num_rows])
        rows = (slots, step.num_computed + 1, self._one_each[: num_rows + 1])
        return Filled(
            tokens=torch.from_numpy(self._tokens[:num_rows]),
            positions=torch.from_numpy(self._positions[:num_rows]),
            sample_rows=places,
            sampled_last=places,
            sampled_last_slots=torch.from_numpy(slots),
            layouts=self._layouts(placement, rows, tables, block_sizes),
        )

    def _continue(self, ids: Any, slots: Any, num_decode: int) -> Any:
        """Places and slots of tokens that only the device knows; in one-token rows, so place and row agree."""
        places = np.flatnonzero(ids[:num_decode] == SAMPLED_LAST)
        continued = self._continued[:, : len(places)]
        continued[0], continued[1] = places, slots[places]
        return continued

    def _layouts(
        self, placement: Placement, rows: tuple[Any, Any, Any], tables: Tables, block_sizes: Sequence[int]
    ) -> tuple[Layout, ...]:
        """A layout a group, from the rows' slots, kv lengths and query starts."""
        slots, kv_len, query_start = rows
        num_rows, padded_rows = len(slots), placement.bucket.num_rows
        num_tokens = int(query_start[num_rows])
        if padded_rows > num_rows:
            self._query_start[num_rows + 1 : padded_rows + 1] = num_tokens
            query_start = self._query_start[: padded_rows + 1]
        self._kv_len[:num_rows] = kv_len
        self._kv_len[num_rows:padded_rows] = 0
        longest = int(kv_len.max())
        layouts = []
        for table, buffer, block_size in zip(tables, self._tables, block_sizes, strict=True):
            width = placement.bucket.max_blocks or -(-longest // block_size)
            buffer[:num_rows, :width] = table[slots, :width]
            buffer[num_rows:padded_rows, :width] = 0
            layouts.append(
                Layout(
                    num_rows=num_rows,
                    num_tokens=num_tokens,
                    query_start=query_start,
                    kv_len=self._kv_len[:padded_rows],
                    block_table=buffer[:padded_rows, :width],
                )
            )
        return tuple(layouts)


def _is_steady(step: Step, placement: Placement) -> bool:
    bucket, num_rows = placement.bucket, step.num_rows
    if not step.num_decode == num_rows == bucket.num_rows == bucket.num_tokens:
        return False
    return placement.rows == (0, num_rows) and bool((step.tokens == SAMPLED_LAST).all() and step.samples.all())


def _positions(query_start: Any, num_computed: Any, num_new: Any, num_tokens: int) -> Any:
    if num_tokens == len(num_new):  # one token a row
        return num_computed
    return np.arange(num_tokens) + np.repeat(num_computed - query_start[:-1], num_new)
