"""Prompt lookup against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from jackfield.speculation.drafter import DraftNeeds
from jackfield.speculation.ngram import NgramDrafter


def needs_of(sequences: list[list[int]], most: list[int]) -> DraftNeeds:
    """A row a sequence, in slots of another order."""
    slots = np.arange(len(sequences))[::-1].copy()
    tokens = np.full((len(sequences), 64), -7, np.int32)
    for slot, sequence in zip(slots, sequences, strict=True):
        tokens[slot, : len(sequence)] = sequence
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    return DraftNeeds(slots, np.ones(len(slots), np.int64), lengths, np.array(most, np.int32), tokens)


def propose(sequence: list[int], most: int = 4, *, low: int = 1, high: int = 3) -> list[int]:
    drafts = NgramDrafter(num_drafts=4, min_ngram=low, max_ngram=high).propose(needs_of([sequence], [most]))
    found: list[int] = drafts.ids[0, : drafts.counts[0]].tolist()
    return found


def by_definition(sequence: list[int], most: int, low: int, high: int) -> list[int]:
    for size in range(high, low - 1, -1):
        ends = [
            end for end in range(size, len(sequence)) if sequence[end - size : end] == sequence[len(sequence) - size :]
        ]
        if ends and size < len(sequence):
            whole = [end for end in ends if end + most <= len(sequence)]
            end = whole[-1] if whole else ends[0]
            return sequence[end : end + most]
    return []


def test_what_followed_last_time_is_guessed() -> None:
    assert propose([1, 2, 3, 4, 5, 9, 1, 2]) == [3, 4, 5, 9]


def test_a_longer_match_beats_a_newer_one() -> None:
    assert propose([7, 1, 2, 5, 5, 5, 5, 3, 2, 6, 6, 6, 6, 7, 1, 2]) == [5, 5, 5, 5]


def test_a_sequence_that_repeats_one_token_is_guessed_to_go_on() -> None:
    assert propose([4, 4, 4, 4, 4, 4, 4, 4]) == [4, 4, 4, 4]


def test_nothing_is_guessed_without_a_match_of_the_least_length() -> None:
    assert propose([1, 2, 3, 9, 8, 3], low=2) == []
    assert propose([1, 2, 3, 4]) == []
    assert propose([5]) == []


@pytest.mark.parametrize("seed", range(200))
def test_random_sequences_get_what_the_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(0, 4, rng.integers(1, 40)).tolist() for _ in range(5)]
    most = rng.integers(0, 5, 5).tolist()
    low = int(rng.integers(1, 3))
    high = low + int(rng.integers(0, 4))
    drafts = NgramDrafter(num_drafts=4, min_ngram=low, max_ngram=high).propose(needs_of(sequences, most))
    for row, sequence in enumerate(sequences):
        wanted = by_definition(sequence, most[row], low, high) if most[row] else []
        assert drafts.ids[row, : drafts.counts[row]].tolist() == wanted
