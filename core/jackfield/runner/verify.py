"""Which drafts a step accepts: those that are what was sampled, up to the first that is not.

The token at a position depends on its uniform number and its logits alone (see `philox`), and the logits behind a draft
are the right ones if everything before it was right. So the target is sampled behind every draft as if it were there by
rights; as long as draft and sample agree it was, and the first sample that differs corrects the draft. What comes out
is what would have come out without drafts: no second random number, no rejection.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from torch import Tensor

from jackfield.engine.step import Int32s, Step

Int64s = npt.NDArray[np.int64]
NO_DRAFT = -1  # equals no sampled id


class Guesses(msgspec.Struct, frozen=True, eq=False):
    """The drafts of a step's sampling rows. Flat arrays have an entry for each position that is sampled, row by row."""

    counts: Int32s  # [rows] positions sampled, 1 + drafts
    slots: Int64s  # [rows]
    flat_slots: Int64s  # [positions]
    flat_ends: Int64s  # [positions] the place in its sequence of the token that is sampled
    places: Int64s  # [rows, 1 + most drafts] of each row's positions among all; past the last: the last
    drafts: Int64s  # [rows, most drafts]; NO_DRAFT past the last

    @classmethod
    def of(cls, step: Step) -> Guesses:
        """Those of a step that has drafts."""
        assert step.num_drafts is not None
        samples = step.samples
        num_drafts, slots = step.num_drafts[samples].astype(np.int64), step.slots[samples].astype(np.int64)
        counts = 1 + num_drafts
        ends = (step.num_computed + step.num_new)[samples] - num_drafts
        first = np.cumsum(counts) - counts
        within = np.arange(counts.sum()) - np.repeat(first, counts)
        steps = np.arange(counts.max(initial=1))
        token_ends = np.cumsum(step.num_new, dtype=np.int64)[samples]  # where each row's tokens end
        at = (token_ends - num_drafts)[:, None] + steps[:-1]
        is_draft = steps[:-1] < num_drafts[:, None]
        return cls(
            counts=counts.astype(np.int32),
            slots=slots,
            flat_slots=np.repeat(slots, counts),
            flat_ends=np.repeat(ends, counts) + within,
            places=first[:, None] + np.minimum(steps, num_drafts[:, None]),
            drafts=np.where(is_draft, step.tokens[np.where(is_draft, at, 0)], NO_DRAFT).astype(np.int64),
        )


class Verified(NamedTuple):
    """On the device."""

    counts: Tensor  # [rows] int64: sampled ids that hold, one more than drafts were accepted
    last: Tensor  # [rows] int64: the last of them


def verify(ids: Tensor, places: Tensor, drafts: Tensor) -> Verified:
    """Compare the sampled `ids` `[positions]` with the drafts; static shapes, no host wait.

    `places` `[rows, 1 + most]` and `drafts` `[rows, most]` are those of `Guesses`.
    """
    by_row = ids[places]  # [rows, 1 + most]
    accepted = (by_row[:, :-1] == drafts).long().cumprod(1).sum(1)
    return Verified(accepted + 1, by_row.gather(1, accepted.unsqueeze(1)).squeeze(1))


def sample_places(ends: Any, num_drafts: Any) -> Any:
    """Where rows are sampled, for rows whose tokens end at `ends` and of which the last `num_drafts` are drafts: behind
    each draft and behind the token before them. `[sum(1 + num_drafts)]`.
    """
    counts = 1 + num_drafts
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(ends - counts, counts) + within


def kept_places(positions: Int32s, counts: Int32s) -> Int64s:
    """Which of the sampled positions hold, where of each row's `positions` the first `counts` do."""
    within = np.arange(int(positions.sum())) - np.repeat(np.cumsum(positions) - positions, positions)
    kept: Int64s = np.flatnonzero(within < np.repeat(counts, positions))
    return kept
