"""What a drafter is asked for and what it answers, in columns; there are two of them beside this file."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from jackfield.engine.step import Int32s


class DraftNeeds(msgspec.Struct, frozen=True, eq=False):
    """The decoding sequences of the step that is being put together. Valid, and read only, during the call."""

    slots: npt.NDArray[np.intp]  # [rows]
    tenures: npt.NDArray[np.int64]  # [rows]; another one for the same slot: a sequence that starts
    num_known: Int32s  # [rows] tokens of each sequence: prompt and answer
    max_drafts: Int32s  # [rows] the most that a row may take; 0 for some
    tokens: Int32s  # [slots, max_model_len] known ids by slot


class Drafts(msgspec.Struct, frozen=True, eq=False):
    """Guesses for the rows of a `DraftNeeds`: row r has `counts[r]` of them, `ids[r, : counts[r]]`."""

    counts: Int32s  # [rows], at most max_drafts
    ids: Int32s  # [rows, width]

    @classmethod
    def none(cls, num_rows: int) -> Drafts:
        """No draft for any row."""
        return cls(np.zeros(num_rows, np.int32), np.zeros((num_rows, 0), np.int32))


class Drafter(Protocol):
    """Guesses what follows. A wrong guess costs time, never a token."""

    def propose(self, needs: DraftNeeds) -> Drafts:
        """Guess for each row; fewer than asked, or none, where it cannot."""
