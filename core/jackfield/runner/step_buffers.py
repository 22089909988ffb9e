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
from jackfield.runner.verify import sample_places
from jackfield_platforms.attention import Layout
from jackfield_platforms.bucket import Bucket, Placement

Int64s = npt.NDArray[np.int64]
Tables = Sequence[npt.NDArray[np.int32]]  # one a KV group, [slots, blocks]


class Filled(msgspec.Struct, frozen=True, eq=False):
    """One launch on the host. Everything but `layouts` is a view of the buffers, valid until they are filled again."""

    tokens: Tensor  # [bucket.num_tokens] int64
    positions: Tensor  # [bucket.num_tokens] int64
    sample_rows: Tensor  # [positions to sample] int64, places of tokens
    sampled_last: Tensor  # [rows that continue] int64, places of tokens
    sampled_last_slots: Tensor  # [rows that continue] int64
    layouts: tuple[Layout, ...]  # one a KV group
    adapters: Tensor | None = None  # [bucket.num_tokens] int64, LoRA slots, -1 none; None: nobody has an adapter


class _Rows(msgspec.Struct, frozen=True, eq=False):
    """The rows of a launch; all `[rows]` but `query_start`, which may hold padding rows too."""

    slots: Any
    num_new: Any
    kv_len: Any
    query_start: Any


class StepBuffers:
    """One set of buffers, which grow to the largest bucket that they are filled for.

    As many sets are needed as steps may be in flight, so that none is overwritten while it is read.
    """

    def __init__(self, max_tokens: int, tables: Tables, *, pinned: bool, adapter_of_slot: Int64s | None = None) -> None:
        self._pinned, self._adapter_of_slot = pinned, adapter_of_slot
        self._widths = [table.shape[1] for table in tables]
        self._reserve_tokens(max_tokens)
        self._reserve_rows(tables[0].shape[0])

    def _buffer(self, *shape: int, dtype: torch.dtype) -> Any:
        return torch.zeros(shape, dtype=dtype, pin_memory=self._pinned).numpy()

    def _reserve_tokens(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._tokens = self._buffer(max_tokens, dtype=torch.int64)
        self._positions = self._buffer(max_tokens, dtype=torch.int64)
        self._adapters = self._buffer(max_tokens, dtype=torch.int64)
        self._sample_rows = self._buffer(max_tokens, dtype=torch.int64)

    def _reserve_rows(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._continued = self._buffer(2, max_rows, dtype=torch.int64)
        self._query_start = self._buffer(max_rows + 1, dtype=torch.int32)
        self._one_each = np.arange(max_rows + 1, dtype=np.int32)  # query_start when every row has one token
        self._places = self._buffer(max_rows, dtype=torch.int64)
        self._places[:] = self._one_each[:-1]
        self._num_new = self._buffer(max_rows, dtype=torch.int32)
        self._kv_len = self._buffer(max_rows, dtype=torch.int32)
        self._tables = [self._buffer(max_rows, width, dtype=torch.int32) for width in self._widths]

    def _reserve(self, bucket: Bucket) -> None:
        """Buckets may be larger than any step: rounded up, or padded inside rows."""
        if bucket.num_tokens > self._max_tokens:
            self._reserve_tokens(bucket.num_tokens)
        if bucket.num_rows > self._max_rows or bucket.max_blocks > min(self._widths):
            self._widths = [max(width, bucket.max_blocks) for width in self._widths]
            self._reserve_rows(max(bucket.num_rows, self._max_rows))

    def fill(self, step: Step, placement: Placement, tables: Tables, block_sizes: Sequence[int]) -> Filled:
        """Write the rows that `placement` names; entries that pad its bucket are token 0 at position 0 of no row."""
        if _is_steady(step, placement):
            return self._fill_steady(step, placement, tables, block_sizes)
        bucket, (first, last) = placement.bucket, placement.rows
        self._reserve(bucket)
        num_rows, padded = last - first, bucket.num_tokens
        num_new, num_computed = step.num_new[first:last], step.num_computed[first:last]
        slots = step.slots[first:last]
        begin = int(step.num_new[:first].sum())
        num_tokens = int(num_new.sum())
        ids = step.tokens[begin : begin + num_tokens]
        query_start = self._starts(num_new, bucket)
        places, positions = _places(query_start[:num_rows], num_new, num_computed, num_tokens)

        self._tokens[:padded] = 0
        self._tokens[places] = ids
        self._positions[:padded] = 0
        self._positions[places] = positions
        samples = step.samples[first:last]
        sampled = (query_start[:num_rows] + num_new)[samples]  # where each row's tokens end
        sampled = (
            sampled - 1 if step.num_drafts is None else sample_places(sampled, step.num_drafts[first:last][samples])
        )
        sample_rows = self._sample_rows[: len(sampled)]
        sample_rows[:] = sampled
        num_decode = min(max(step.num_decode - first, 0), num_rows)
        continued = self._continue(ids[:num_decode], slots, query_start)
        return Filled(
            tokens=torch.from_numpy(self._tokens[:padded]),
            positions=torch.from_numpy(self._positions[:padded]),
            sample_rows=torch.from_numpy(sample_rows),
            sampled_last=torch.from_numpy(continued[0]),
            sampled_last_slots=torch.from_numpy(continued[1]),
            layouts=self._layouts(
                placement, _Rows(slots, num_new, num_computed + num_new, query_start), tables, block_sizes
            ),
            adapters=self._adapters_at(places, np.repeat(slots, num_new), placement),
        )

    def fill_padding(self, bucket: Bucket, block_sizes: Sequence[int]) -> Filled:
        """A launch of no row at all, to warm a bucket up with."""
        self._reserve(bucket)
        none = np.zeros(0, np.int32)
        rows = _Rows(none, none, none, self._starts(none, bucket))
        self._tokens[: bucket.num_tokens] = 0
        self._positions[: bucket.num_tokens] = 0
        nothing = torch.zeros(0, dtype=torch.int64)
        return Filled(
            tokens=torch.from_numpy(self._tokens[: bucket.num_tokens]),
            positions=torch.from_numpy(self._positions[: bucket.num_tokens]),
            sample_rows=nothing,
            sampled_last=nothing,
            sampled_last_slots=nothing,
            layouts=self._layouts(Placement(bucket, (0, 0)), rows, self._tables, block_sizes),
            adapters=self._adapters_at(none, none, Placement(bucket, (0, 0), captured=True)),
        )

    def _fill_steady(self, step: Step, placement: Placement, tables: Tables, block_sizes: Sequence[int]) -> Filled:
        """The step that is run most: every row continues by one token and samples the next."""
        num_rows = step.num_rows
        self._positions[:num_rows] = step.num_computed
        slots = self._continued[1, :num_rows]
        slots[:] = step.slots
        places = torch.from_numpy(self._places[:num_rows])
        rows = _Rows(slots, step.num_new, step.num_computed + 1, self._one_each[: num_rows + 1])
        return Filled(
            tokens=torch.from_numpy(self._tokens[:num_rows]),
            positions=torch.from_numpy(self._positions[:num_rows]),
            sample_rows=places,
            sampled_last=places,
            sampled_last_slots=torch.from_numpy(slots),
            layouts=self._layouts(placement, rows, tables, block_sizes),
            adapters=self._adapters_at(self._places[:num_rows], slots, placement),
        )

    def _adapters_at(self, places: Any, slots: Any, placement: Placement) -> Tensor | None:
        """The adapter of each token: `slots` are those of the sequences of the tokens at `places`."""
        if self._adapter_of_slot is None:
            return None
        adapters = self._adapter_of_slot[slots]
        if not placement.captured and (adapters < 0).all():
            return None  # a program that is run as it is may leave adapters out
        padded = placement.bucket.num_tokens
        self._adapters[:padded] = -1
        self._adapters[places] = adapters
        return torch.from_numpy(self._adapters[:padded])

    def _starts(self, num_new: Any, bucket: Bucket) -> Any:
        """Where each row's tokens begin, `[bucket.num_rows + 1]`; the last entry is where padding tokens begin."""
        query_start = self._query_start[: bucket.num_rows + 1]
        if bucket.query_len is not None:
            np.multiply(self._one_each[: len(query_start)], bucket.query_len, out=query_start)
            return query_start
        np.cumsum(num_new, out=query_start[1 : len(num_new) + 1])
        query_start[len(num_new) + 1 :] = query_start[len(num_new)]
        return query_start

    def _continue(self, ids: Any, slots: Any, query_start: Any) -> Any:
        """Places and slots of tokens that only the device knows; they are in one-token rows, which come first."""
        rows = np.flatnonzero(ids == SAMPLED_LAST)
        continued = self._continued[:, : len(rows)]
        continued[0], continued[1] = query_start[rows], slots[rows]
        return continued

    def _layouts(
        self, placement: Placement, rows: _Rows, tables: Tables, block_sizes: Sequence[int]
    ) -> tuple[Layout, ...]:
        """A layout a group."""
        num_rows, padded_rows = len(rows.slots), placement.bucket.num_rows
        self._kv_len[:num_rows] = rows.kv_len
        self._kv_len[num_rows:padded_rows] = 0
        self._num_new[:num_rows] = rows.num_new
        self._num_new[num_rows:padded_rows] = 0
        longest = int(rows.kv_len.max(initial=0))
        layouts = []
        for table, buffer, block_size in zip(tables, self._tables, block_sizes, strict=True):
            width = placement.bucket.max_blocks or max(-(-longest // block_size), 1)
            filled = min(width, table.shape[1])
            buffer[:num_rows, :filled] = table[rows.slots, :filled]
            buffer[:num_rows, filled:width] = 0
            buffer[num_rows:padded_rows, :width] = 0
            layouts.append(
                Layout(
                    num_rows=num_rows,
                    num_tokens=int(rows.num_new.sum()),
                    query_start=rows.query_start,
                    num_new=self._num_new[:padded_rows],
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


def _places(query_start: Any, num_new: Any, num_computed: Any, num_tokens: int) -> tuple[Any, Any]:
    """Where each token of the rows goes among the launch's tokens, and its position in its row. Both `[tokens]`."""
    if num_tokens == len(num_new):  # one token a row
        return query_start, num_computed
    within = np.arange(num_tokens) - np.repeat(np.cumsum(num_new) - num_new, num_new)
    return np.repeat(query_start, num_new) + within, np.repeat(num_computed, num_new) + within
