"""What a platform compiled after the warm-up, though nobody captured it."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger(__name__)


class LateCompilationError(RuntimeError):
    """Something was compiled in the middle of serving, which the bucket plan forbids."""


class LateCompilations:
    """Compares `compiled()`, of `Platform.num_compilations`, before and after what runs; counts nothing where that is
    None.
    """

    def __init__(self, compiled: Callable[[], int | None]) -> None:
        self._compiled = compiled
        self._seen: int | None = None  # None: the warm-up is not over
        self.count = 0

    def begin(self) -> None:
        """The warm-up is over."""
        self._seen = self._compiled()

    def check(self, what: str, *, forbidden: bool) -> None:
        """Count and log what was compiled since the last look, for `what`; LateCompilationError if it is forbidden."""
        now = None if self._seen is None else self._compiled()
        if now is None or self._seen is None or now == self._seen:
            return
        late, self._seen = now - self._seen, now
        self.count += late
        logger.warning("%d programs were compiled after the warm-up, for %s", late, what)
        if forbidden:
            raise LateCompilationError(f"{late} programs were compiled after the warm-up, for {what}")
