"""A step whose sampled ids are on their way to the host."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from jackfield.engine.messages import TokenLogprobs
from jackfield.engine.step import StepResult
from jackfield.runner.sampler import Logprobs, Sampled
from jackfield.runner.slot_sampling import SamplingRows

Fetch = Callable[[Tensor], Callable[[], Tensor]]


class PendingStep:
    """Starts the copies when made; `wait` is the only host wait of a step."""

    def __init__(self, sampled: Sampled, rows: SamplingRows, fetch: Fetch) -> None:
        self._ids, self._rows = fetch(sampled.ids), rows
        self._logprobs = None if sampled.logprobs is None else _fetch_logprobs(sampled.logprobs, fetch)

    def wait(self) -> StepResult:
        """The ids, and log-probabilities for the rows that asked."""
        ids = self._ids().numpy().astype(np.int32)
        if self._logprobs is None:
            return StepResult(ids)
        own, rank, top, top_ids = (copy().tolist() for copy in self._logprobs)
        wanted = zip(self._rows.with_logprobs.tolist(), self._rows.num_logprobs.tolist(), strict=True)
        return StepResult(
            ids,
            {
                row: TokenLogprobs(own[i], rank[i], top_ids[i][:count], top[i][:count])
                for i, (row, count) in enumerate(wanted)
            },
        )


def _fetch_logprobs(logprobs: Logprobs, fetch: Fetch) -> tuple[Callable[[], Tensor], ...]:
    return tuple(fetch(tensor) for tensor in (logprobs.own, logprobs.rank, logprobs.top, logprobs.top_ids))
