"""A step whose sampled ids are on their way to the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from jackfield.engine.messages import TokenLogprobs
from jackfield.engine.step import Int32s, StepResult
from jackfield.runner.sampler import Logprobs, Sampled
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
        self._ids, self._rows = fetch(sampled.ids if counts is None else torch.cat((sampled.ids, counts))), rows
        self._positions = positions
        self._logprobs = None if sampled.logprobs is None else _fetch_logprobs(sampled.logprobs, fetch)

    def wait(self) -> StepResult:
        """The ids, and log-probabilities for the rows that asked."""
        ids = self._ids().numpy().astype(np.int32)
        if self._positions is not None:
            return self._only_kept(ids, self._positions)
        return StepResult(ids, self._logprobs_by_place())

    def _only_kept(self, ids: Int32s, positions: Int32s) -> StepResult:
        ids, counts = np.split(ids, [len(ids) - len(positions)])
        kept = kept_places(positions, counts)
        by_place = self._logprobs_by_place()
        logprobs = {new: by_place[old] for new, old in enumerate(kept.tolist()) if old in by_place}
        return StepResult(ids[kept], logprobs, counts)

    def _logprobs_by_place(self) -> dict[int, TokenLogprobs]:
        if self._logprobs is None:
            return {}
        own, rank, top, top_ids = (copy().tolist() for copy in self._logprobs)
        wanted = zip(self._rows.with_logprobs.tolist(), self._rows.num_logprobs.tolist(), strict=True)
        return {
            place: TokenLogprobs(own[i], rank[i], top_ids[i][:count], top[i][:count])
            for i, (place, count) in enumerate(wanted)
        }


def _fetch_logprobs(logprobs: Logprobs, fetch: Fetch) -> tuple[Callable[[], Tensor], ...]:
    return tuple(fetch(tensor) for tensor in (logprobs.own, logprobs.rank, logprobs.top, logprobs.top_ids))
