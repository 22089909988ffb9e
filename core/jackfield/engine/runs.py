"""Tokens that one row yielded: one, or several where drafts were accepted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jackfield.engine.messages import TokenLogprobs
from jackfield.engine.rows import InFlight
from jackfield.engine.step import StepResult


class Run(NamedTuple):
    """Consecutive tokens of one sequence."""

    tokens: list[int]
    logprobs: list[TokenLogprobs]  # one a token, or none at all

    def first(self, count: int) -> Run:
        """Its first tokens."""
        return Run(self.tokens[:count], self.logprobs[:count])


def runs_of(result: StepResult) -> list[Run]:
    """What each sampling row yielded."""
    tokens: list[int] = result.token_ids.tolist()
    counts = [1] * len(tokens) if result.counts is None else result.counts.tolist()
    runs, begin = [], 0
    for count in counts:
        places = range(begin, begin + count)
        runs.append(Run(tokens[begin : begin + count], [result.logprobs[p] for p in places if p in result.logprobs]))
        begin += count
    return runs


def check_result(record: InFlight, result: StepResult) -> None:
    """ValueError when a result does not fit its step."""
    num_rows, found = len(record.sampled.sequences), len(result.token_ids)
    if record.num_drafts is None and result.counts is None:
        if found != num_rows:
            raise ValueError(f"step {record.id} has {num_rows} sampling rows; its result has {found} tokens")
        return
    if record.num_drafts is None or result.counts is None:
        raise ValueError(f"step {record.id}: either its rows have drafts or its result has no counts; not so here")
    counts = result.counts
    if len(counts) != num_rows or int(counts.sum()) != found:
        raise ValueError(
            f"step {record.id} has {num_rows} sampling rows; its result has {len(counts)} counts of "
            f"{counts.sum()} tokens in all, and {found} tokens"
        )
    if ((counts < 1) | (counts > 1 + record.num_drafts)).any():
        raise ValueError(f"step {record.id} has drafts {record.num_drafts.tolist()}; it yielded {counts.tolist()}")


def at(result: StepResult, indices: list[int]) -> StepResult:
    """The results of some rows."""
    if result.counts is None:
        logprobs = {new: result.logprobs[old] for new, old in enumerate(indices) if old in result.logprobs}
        return StepResult(result.token_ids[indices], logprobs)
    ends = np.cumsum(result.counts)
    places = [place for row in indices for place in range(ends[row] - result.counts[row], ends[row])]
    logprobs = {new: result.logprobs[old] for new, old in enumerate(places) if old in result.logprobs}
    return StepResult(result.token_ids[places], logprobs, result.counts[indices])
