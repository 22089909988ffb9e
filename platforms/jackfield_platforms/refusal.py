"""Choosing the first candidate that does not refuse, and telling why each of the others did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Refused(Exception):
    """Nobody can serve a need. The message lists every candidate with its reason; `refusals` holds them in order."""

    def __init__(self, message: str, refusals: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.refusals = refusals


class Choice(msgspec.Struct, Generic[T], frozen=True):
    """The candidate that was taken, and (name, reason) of each better-placed one that refused.

    `unasked` names those placed after it: nobody asked whether they would serve.
    """

    taken: T
    refusals: tuple[tuple[str, str], ...] = ()
    unasked: tuple[str, ...] = ()


def choose(
    what: str, candidates: Sequence[T], rejects: Callable[[T], str | None], name: Callable[[T], str]
) -> Choice[T]:
    """Take the first candidate whose `rejects` returns None; raise `Refused` with all the reasons when none does."""
    refusals: list[tuple[str, str]] = []
    for place, candidate in enumerate(candidates):
        reason = rejects(candidate)
        if reason is None:
            return Choice(candidate, tuple(refusals), tuple(name(one) for one in candidates[place + 1 :]))
        refusals.append((name(candidate), reason))
    lines = "\n".join(f"  {label:<24} {reason}" for label, reason in refusals) or "  (no candidates)"
    raise Refused(f"Nothing can serve {what}:\n{lines}", tuple(refusals))
