"""Rows of a step as the scheduler remembers them: columns that stay the same while the same sequences decode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jackfield.engine.sequence import Sequence
from jackfield.engine.slot_columns import SlotColumns
from jackfield.engine.step import Int32s


class Rows(NamedTuple):
    """Sequences and what is asked of each of them every step, one entry a row. Lists are shared: never changed in
    place.
    """

    sequences: list[Sequence]
    slots: npt.NDArray[np.intp]
    tenures: npt.NDArray[np.int64]  # of the slots when the rows were made
    ids: list[str]
    stop_token_ids: list[frozenset[int]]

    @classmethod
    def of(cls, sequences: list[Sequence], columns: SlotColumns) -> Rows:
        slots = np.array([sequence.slot for sequence in sequences], np.intp)
        requests = [sequence.request for sequence in sequences]
        ids, stops = [request.id for request in requests], [request.stop_token_ids for request in requests]
        return cls(sequences, slots, columns.tenures[slots], ids, stops)

    def __add__(self, other: Rows) -> Rows:  # type: ignore[override]
        """These rows, then the others."""
        if not self.sequences or not other.sequences:
            return self if self.sequences else other
        slots, tenures = np.concatenate((self.slots, other.slots)), np.concatenate((self.tenures, other.tenures))
        stops = self.stop_token_ids + other.stop_token_ids
        return Rows(self.sequences + other.sequences, slots, tenures, self.ids + other.ids, stops)

    def at(self, indices: Iterable[int]) -> Rows:
        """Some of the rows, as they were made."""
        kept = list(indices)
        sequences, ids = [self.sequences[i] for i in kept], [self.ids[i] for i in kept]
        return Rows(sequences, self.slots[kept], self.tenures[kept], ids, [self.stop_token_ids[i] for i in kept])


class InFlight(NamedTuple):
    """A step whose results are yet to come."""

    id: int
    rows: Rows
    ends: Int32s  # [rows]: tokens computed once the step is done
    sampled: Rows  # the rows that yield a token, in order
    prefilled: tuple[Sequence, ...] = ()  # those of its prefill rows
    num_drafts: Int32s | None = None  # [sampled rows]; None: no row has any, so that each yields one token


class DecodeBatch:
    """The sequences that take one token a step, and their rows, made anew only after a change of membership."""

    def __init__(self, columns: SlotColumns) -> None:
        self._columns = columns
        self._members: dict[Sequence, None] = {}
        self._rows = Rows.of([], columns)
        self._is_stale = False

    def __len__(self) -> int:
        return len(self._members)

    @property
    def rows(self) -> Rows:
        if self._is_stale:
            self._rows, self._is_stale = Rows.of(list(self._members), self._columns), False
        return self._rows

    def add(self, sequence: Sequence) -> None:
        self._members[sequence] = None
        self._is_stale = True

    def remove(self, sequence: Sequence) -> None:
        del self._members[sequence]
        self._is_stale = True
