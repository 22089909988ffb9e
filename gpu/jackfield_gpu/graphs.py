"""Programs captured in graphs, whole; `pieces` captures them in stretches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import torch

from jackfield_gpu.capture import CaptureError, Recorder, refused
from jackfield_gpu.pieces import GraphPieces, name_of
from jackfield_platforms.graph import GraphRunner, Pieces, ProgramKey


class _Captured(msgspec.Struct, frozen=True, eq=False):
    graph: Any
    outputs: Any  # kept, so that no later capture is given their memory
    held: tuple[Any, ...]  # the graph reads where these lie


class StreamGraphs(GraphRunner):
    """Captures programs in graphs that share one memory pool; a program that was not captured runs as it is.

    The core captures the largest size first, so that the smaller ones find their memory in the pool. Replays go in
    order on one stream, so that what one program leaves behind and nobody reads may be written over by the next.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._recorder = Recorder(device, cuda)
        self._captured: dict[ProgramKey, _Captured] = {}
        self._pieces = GraphPieces(self._recorder)

    @property
    def num_captures(self) -> int:
        """Programs and pieces captured so far."""
        return len(self._captured) + self._pieces.num_captures

    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        if key in self._captured:
            raise CaptureError(f"{name_of(key)} is captured already; a second capture would leak the first")
        self._recorder.warm_up(program, buffers)
        capture = self._recorder.begin(name_of(key))
        try:
            outputs = program(*buffers)
        except RuntimeError as error:  # what a driver says of operations that no capture holds is one
            capture.close()
            raise refused(name_of(key), error) from error
        except BaseException:
            capture.close()
            raise
        graph, num_bytes = capture.close()
        self._captured[key] = _Captured(graph, outputs, (program, buffers))
        return num_bytes

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        captured = self._captured.get(key)
        if captured is None:
            return program(*buffers)
        captured.graph.replay()
        return captured.outputs

    def pieces(self) -> Pieces | str:
        return self._pieces
