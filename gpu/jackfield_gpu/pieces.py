"""Programs captured in stretches: between two of them the core runs what no capture may hold."""

from __future__ import annotations

from typing import Any

from jackfield_gpu.capture import Capture, CaptureError, Recorder
from jackfield_platforms.graph import Pieces, ProgramKey


class GraphPieces(Pieces):
    """A graph for each piece, out of the memory pool that whole programs use too.

    What a piece makes and a later piece reads keeps its place in the pool as long as the program, while it is captured,
    holds the tensor; memory that it lets go is given to pieces behind it, and replays go in that order.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._graphs: dict[ProgramKey, Any] = {}
        self._held: dict[ProgramKey, tuple[Any, ...]] = {}  # the graphs read where these lie
        self._open: dict[ProgramKey, Capture] = {}  # at most one

    @property
    def num_captures(self) -> int:
        """Pieces captured so far."""
        return len(self._graphs)

    def begin(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        if key in self._graphs:
            raise CaptureError(f"{name_of(key)} is captured already; a second capture would leak the first")
        if self._open:
            raise CaptureError(f"{name_of(key)} was begun before {name_of(next(iter(self._open)))} was ended")
        self._open[key] = self._recorder.begin(name_of(key), is_first=not key.piece)
        self._held[key] = buffers

    def end(self, key: ProgramKey) -> int:
        if key not in self._open:
            raise CaptureError(f"{name_of(key)} was ended and not begun")
        self._graphs[key], num_bytes = self._open.pop(key).close()
        return num_bytes

    def replay(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        if key not in self._graphs:
            raise CaptureError(f"{name_of(key)} was not captured")
        self._graphs[key].replay()


def name_of(key: ProgramKey) -> str:
    """For messages: `piece 3 of program 'forward' at decode, num_rows 8, num_tokens 8`."""
    piece = "" if key.piece is None else f"piece {key.piece} of "
    return f"{piece}program {key.program!r} at {key.bucket.describe()}"
