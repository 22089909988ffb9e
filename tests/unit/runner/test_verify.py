"""Which drafts are accepted, against the definition, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jackfield.engine.step import Step
from jackfield.runner.verify import Guesses, kept_places, sample_places, verify


def random_step(rng: np.random.Generator) -> Step:
    """Rows with and without drafts, then prompts, some of which do not sample."""
    num_decode, num_prefill = int(rng.integers(1, 6)), int(rng.integers(0, 4))
    drafts = np.concatenate((rng.integers(0, 5, num_decode), np.zeros(num_prefill, int))).astype(np.int32)
    num_new = (1 + drafts).astype(np.int32)
    num_new[num_decode:] = rng.integers(1, 9, num_prefill)
    rows = num_decode + num_prefill
    samples = np.ones(rows, bool)
    samples[num_decode:] = rng.random(num_prefill) < 0.5
    return Step(
        id=0,
        slots=rng.permutation(16)[:rows].astype(np.int32),
        num_computed=rng.integers(0, 50, rows).astype(np.int32),
        num_new=num_new,
        samples=samples,
        tokens=rng.integers(0, 3, int(num_new.sum())).astype(np.int32),
        num_decode=num_decode,
        tables=(),
        num_drafts=drafts,
    )


@pytest.mark.parametrize("seed", range(100))
def test_drafts_hold_up_to_the_first_that_was_not_sampled(seed: int) -> None:
    rng = np.random.default_rng(seed)
    step = random_step(rng)
    assert step.num_drafts is not None
    guesses = Guesses.of(step)
    ids = rng.integers(0, 3, len(guesses.flat_slots))
    verified = verify(torch.from_numpy(ids), torch.from_numpy(guesses.places), torch.from_numpy(guesses.drafts))
    kept = ids[kept_places(guesses.counts, verified.counts.numpy().astype(np.int32))].tolist()

    wanted, last, position = [], [], 0
    ends = np.cumsum(step.num_new)
    for row in np.flatnonzero(step.samples).tolist():
        count = int(step.num_drafts[row])
        drafts = step.tokens[ends[row] - count : ends[row]].tolist()
        sampled = ids[position : position + 1 + count].tolist()
        right = next((place for place in range(count) if drafts[place] != sampled[place]), count)
        wanted += sampled[: right + 1]
        last.append(sampled[right])
        first = int(step.num_computed[row] + step.num_new[row]) - count
        assert guesses.flat_ends[position : position + 1 + count].tolist() == list(range(first, first + 1 + count))
        assert (guesses.flat_slots[position : position + 1 + count] == step.slots[row]).all()
        position += 1 + count
    assert kept == wanted
    assert verified.last.tolist() == last
    assert guesses.slots.tolist() == step.slots[step.samples].tolist()


def test_rows_are_sampled_behind_their_own_token_and_behind_each_draft() -> None:
    ends, num_drafts = np.array([3, 4, 9]), np.array([2, 0, 1])
    assert sample_places(ends, num_drafts).tolist() == [0, 1, 2, 3, 7, 8]
