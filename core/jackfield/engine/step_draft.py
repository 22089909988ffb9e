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
        self._num_drafts: Int32s | None = None
        self._draft_ids: Int32s = self._sampled_last[:0]

    def add_drafts(self, counts: Int32s, ids: Int32s) -> None:
        """Decode row r holds `ids[r, : counts[r]]` behind its own token; at least one row has some."""
        self._num_drafts = counts
        self._draft_ids = ids[np.arange(ids.shape[1]) < counts[:, None]]

    @property
    def num_decode_tokens(self) -> int:
        """Tokens of the decode rows, drafts included."""
        return len(self.decode.sequences) + len(self._draft_ids)

    @property
    def is_empty(self) -> bool:
        return not self.decode.sequences and not self.prefills

    def build(self, step_id: int, tables: tuple[TableUpdates, ...]) -> tuple[Step, InFlight]:
        """The step, and what to remember of it until its results come."""
        if not self.prefills:
            return self._build_decode(step_id, tables)
        if self._mixed:  # one-token rows come first; the sort is stable
            self.prefills.sort(key=lambda row: row.end - row.start != 1)
        num_decode, (decode_new, decode_tokens) = len(self.decode.sequences), self._decode_columns()
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
            num_new=np.concatenate((decode_new, ends - starts)),
            samples=np.concatenate((self._true[:num_decode], samples)),
            tokens=np.concatenate((decode_tokens, *ids)),
            num_decode=num_decode + (int(np.count_nonzero(ends - starts == 1)) if self._mixed else 0),
            tables=tables,
            starts=tuple(self.starts),
            num_drafts=self._drafts_of(len(rows.sequences)),
        )
        sampled = self.decode + prefill.at(samples.nonzero()[0].tolist())
        ends = np.concatenate((self.decode_starts + decode_new, ends))
        prefilled = tuple(row.sequence for row in self.prefills)
        return step, InFlight(step_id, rows, ends, sampled, prefilled, self._drafts_of(len(sampled.sequences)))

    def _build_decode(self, step_id: int, tables: tuple[TableUpdates, ...]) -> tuple[Step, InFlight]:
        rows = self.decode
        count = len(rows.sequences)
        num_new, tokens = self._decode_columns()
        step = Step(
            id=step_id,
            slots=rows.slots.astype(np.int32),
            num_computed=self.decode_starts,
            num_new=num_new,
            samples=self._true[:count],
            tokens=tokens,
            num_decode=count,
            tables=tables,
            num_drafts=self._num_drafts,
        )
        return step, InFlight(step_id, rows, self.decode_starts + num_new, rows, num_drafts=self._num_drafts)

    def _decode_columns(self) -> tuple[Int32s, Int32s]:
        """`num_new` and `tokens` of the decode rows. Where rows have drafts the host knows the token before them."""
        count = len(self.decode.sequences)
        if self._num_drafts is None:
            return self._ones[:count], self._sampled_last[:count]
        num_new = 1 + self._num_drafts
        own = np.cumsum(num_new) - num_new  # places of the rows' own tokens
        tokens = np.empty(count + len(self._draft_ids), np.int32)
        is_draft = np.ones(len(tokens), np.bool_)
        is_draft[own] = False
        tokens[own] = self._columns.tokens[self.decode.slots, self.decode_starts]
        tokens[is_draft] = self._draft_ids
        return num_new, tokens

    def _drafts_of(self, num_rows: int) -> Int32s | None:
        """`num_drafts` of rows that begin with the decode rows."""
        if self._num_drafts is None:
            return None
        return np.concatenate((self._num_drafts, np.zeros(num_rows - len(self._num_drafts), np.int32)))
