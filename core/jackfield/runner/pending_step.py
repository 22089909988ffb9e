"""A step whose sampled ids are on their way to the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from jackfield.engine.messages import TokenLogprobs
from jackfield.engine.step import Int32s, StepResult
from jackfield.runner.sampler import Sampled
from jackfield.runner.slot_sampling import SamplingRows
from jackfield.runner.verify import kept_places

Fetch = Callable[[Tensor], Callable[[], Tensor]]


class PendingStep:
    """Starts the copies when made; `wait` is the only host wait of a step."""

    def __init__(
        self,
        sampled: Sampled,
        rows: SamplingRows,
        fetch: Fetch,
        *,
        positions: Int32s | None = None,
        counts: Tensor | None = None,
    ) -> None:
        """With drafts, `positions` were sampled of each row, and the first `counts` of them hold."""
        self._ids, self._rows, self._positions = fetch(sampled.ids), rows, positions
        self._counts = None if counts is None else fetch(counts)
        self._logprobs = None if sampled.logprobs is None else tuple(fetch(part) for part in sampled.logprobs)
        self._of_every_row = sampled.of_every_row

    def wait(self) -> StepResult:
        """The ids, and log-probabilities for the rows that asked."""
        ids = self._ids().numpy()[: len(self._rows.slots)].astype(np.int32)
        if self._positions is None or self._counts is None:
            return StepResult(ids, self._logprobs_by_place())
        counts = self._counts().numpy()[: len(self._positions)].astype(np.int32)
        kept = kept_places(self._positions, counts)
        by_place = self._logprobs_by_place()
        logprobs = {new: by_place[old] for new, old in enumerate(kept.tolist()) if old in by_place}
        return StepResult(ids[kept], logprobs, counts)

    def _logprobs_by_place(self) -> dict[int, TokenLogprobs]:
        if self._logprobs is None:
            return {}
        own, rank, top, top_ids = (copy().tolist() for copy in self._logprobs)
        places, counts = self._rows.with_logprobs.tolist(), self._rows.num_logprobs.tolist()
        entries = places if self._of_every_row else range(len(places))
        return {
            place: TokenLogprobs(own[i], rank[i], top_ids[i][:count], top[i][:count])
            for place, count, i in zip(places, counts, entries, strict=True)
        }
