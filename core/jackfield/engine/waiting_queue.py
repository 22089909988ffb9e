"""Sequences that hold no slot, best first."""

from __future__ import annotations

from bisect import bisect_left, insort

from jackfield.engine.sequence import Sequence


class WaitingQueue:
    """Sorted by priority, then arrival; a preempted sequence thus returns to its old place."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def first(self) -> Sequence:
        return self._sequences[0]

    def add(self, sequence: Sequence) -> None:
        insort(self._sequences, sequence, key=_order)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out that is in the queue."""
        index = bisect_left(self._sequences, sequence.order, key=_order)
        assert self._sequences[index] is sequence
        del self._sequences[index]


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.order
