"""A step while it is put together: decode rows as they stand, prefill rows one by one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jackfield.engine.rows import InFlight, Rows
from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.sequence import Sequence
from jackfield.engine.slot_columns import SlotColumns
from jackfield.engine.step import SAMPLED_LAST, Int32s, Start, Step, TableUpdates


class PrefillRow(NamedTuple):
    """Known tokens `start : end` of a sequence."""

    sequence: Sequence
    start: int
    end: int
    samples: bool


class StepDraft:
    """What the scheduler has chosen so far. Constant arrays are made once and shared by all steps."""

    def __init__(self, config: SchedulerConfig, columns: SlotColumns) -> None:
        self._columns, self._mixed = columns, config.rules.mixed
        most = config.max_num_seqs
        self._ones = np.ones(most, np.int32)
        self._true = np.ones(most, np.bool_)
        self._sampled_last = np.full(most, SAMPLED_LAST, np.int32)
        for shared in (self._ones, self._true, self._sampled_last):
            shared.flags.writeable = False
        self._none = Rows.of([], columns)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.decode = self._none
        self.decode_starts: Int32s = self._ones[:0]
        self.prefills: list[PrefillRow] = []
        self.starts: list[Start] = []

    @property
    def is_empty(self) -> bool:
        return not self.decode.sequences and not self.prefills

    def build(self, step_id: int, tables: tuple[TableUpdates, ...]) -> tuple[Step, InFlight]:
        """The step, and what to remember of it until its results come."""
        if not self.prefills:
            return self._build_decode(step_id, tables)
        if self._mixed:  # one-token rows come first; the sort is stable
            self.prefills.sort(key=lambda row: row.end - row.start != 1)
        num_decode = len(self.decode.sequences)
        prefill = Rows.of([row.sequence for row in self.prefills], self._columns)
        starts = np.array([row.start for row in self.prefills], np.int32)
        ends = np.array([row.end for row in self.prefills], np.int32)
        samples = np.array([row.samples for row in self.prefills], np.bool_)
        ids = [self._columns.tokens[row.sequence.slot, row.start : row.end] for row in self.prefills]
        rows = self.decode + prefill
        step = Step(
            id=step_id,
            slots=rows.slots.astype(np.int32),
            num_computed=np.concatenate((self.decode_starts, starts)),
            num_new=np.concatenate((self._ones[:num_decode], ends - starts)),
            samples=np.concatenate((self._true[:num_decode], samples)),
            tokens=np.concatenate((self._sampled_last[:num_decode], *ids)),
            num_decode=num_decode + (int(np.count_nonzero(ends - starts == 1)) if self._mixed else 0),
            tables=tables,
            starts=tuple(self.starts),
        )
        sampled = self.decode + prefill.at(samples.nonzero()[0].tolist())
        return step, InFlight(step_id, rows, np.concatenate((self.decode_starts + 1, ends)), sampled)

    def _build_decode(self, step_id: int, tables: tuple[TableUpdates, ...]) -> tuple[Step, InFlight]:
        rows = self.decode
        count = len(rows.sequences)
        ones = self._ones[:count]
        step = Step(
            id=step_id,
            slots=rows.slots.astype(np.int32),
            num_computed=self.decode_starts,
            num_new=ones,
            samples=self._true[:count],
            tokens=self._sampled_last[:count],
            num_decode=count,
            tables=tables,
        )
        return step, InFlight(step_id, rows, self.decode_starts + ones, rows)
