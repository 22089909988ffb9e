"""Stop strings, wherever the borders of tokens fall."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Passed(msgspec.Struct, frozen=True):
    """Text that may be shown, and the stop string that was met (None: none yet)."""

    text: str
    stop: str | None = None


class StopStrings:
    """Watches one sequence's text; holds back its end while that may be the beginning of a stop string.

    The string that is complete first wins, and of those that end together the longest, so that the answer does not
    depend on how the text was cut into tokens.
    """

    def __init__(self, stops: Iterable[str], *, include_stop: bool) -> None:
        self._stops = tuple(stops)
        self._include_stop = include_stop
        self._beginnings = frozenset(stop[:size] for stop in self._stops for size in range(1, len(stop)))
        self._longest_beginning = max((len(stop) for stop in self._stops), default=1) - 1
        self._held = ""

    def feed(self, text: str, *, may_stop: bool = True) -> Passed:
        """Add text. With `may_stop` False (fewer than min_tokens are there) a stop string passes like any text."""
        text = self._held + text
        found = self._first(text) if may_stop else None
        if found is not None:
            begin, stop = found
            self._held = ""
            return Passed(text[: begin + len(stop)] if self._include_stop else text[:begin], stop)
        kept = self._held_len(text)
        self._held = text[len(text) - kept :]
        return Passed(text[: len(text) - kept])

    def flush(self) -> str:
        """What was held back, at the end of a sequence that met no stop string."""
        held, self._held = self._held, ""
        return held

    def _first(self, text: str) -> tuple[int, str] | None:
        matches = [(begin + len(stop), begin, stop) for stop in self._stops if (begin := text.find(stop)) >= 0]
        if not matches:
            return None
        _, begin, stop = min(matches)
        return begin, stop

    def _held_len(self, text: str) -> int:
        for size in range(min(self._longest_beginning, len(text)), 0, -1):
            if text[-size:] in self._beginnings:
                return size
        return 0
