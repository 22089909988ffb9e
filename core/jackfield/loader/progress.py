"""A progress bar in bytes, on stderr, where somebody can see it."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar


class Progress:
    """`with Progress(total_bytes, shown=True) as bar: bar.advance(n)`. Draws nothing unless stderr is a terminal."""

    def __init__(self, total: int, *, shown: bool) -> None:
        columns = (
            TextColumn("Loading weights"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self.bar = Bar(*columns, console=Console(stderr=True), disable=not (shown and sys.stderr.isatty()))
        self.task = self.bar.add_task("", total=total)

    def advance(self, num_bytes: int) -> None:
        """So many bytes more are done."""
        self.bar.advance(self.task, num_bytes)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
