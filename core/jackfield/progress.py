"""A progress bar on stderr, where somebody can see it. What draws it is imported only then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """So much more is done; `title` replaces what stands before the bar."""

    def __call__(self, amount: int, title: str | None = None) -> None: ...


@contextmanager
def progress_bar(
    title: str, total: int, *, shown: bool, in_bytes: bool = False, transient: bool = False
) -> Iterator[Advance]:
    """`with progress_bar("Loading weights", num_bytes, shown=True, in_bytes=True) as advance: advance(n)`.

    Draws nothing unless stderr is a terminal. A bar of bytes tells how many a second, a transient one vanishes.
    """
    if not (shown and sys.stderr.isatty()):
        yield _unseen
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amount: tuple[ProgressColumn, ...] = (TaskProgressColumn(),)
    if in_bytes:
        amount = (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=transient) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount, title=None: bar.update(task, advance=amount, description=title)


def _unseen(amount: int, title: str | None = None) -> None:
    return
