"""A stand-in for `torch.cuda` on the host, as far as the graph runner and copies to the host use it.

A graph records torch's operations and replays those alone (`testing.recording_graphs`). What each name stands for, and
where torch's documentation describes it (docs.pytorch.org/docs/stable):

    name                      documentation                               here
    Stream(device)            torch.cuda.Stream                           an order, kept in `FakeCuda.events`
    Stream.wait_stream        torch.cuda.Stream                           noted
    current_stream(device)    torch.cuda.current_stream                   the innermost of `stream`
    stream(stream)            torch.cuda.stream                           makes it the current one
    synchronize(device)       torch.cuda.synchronize                      noted; an error during a capture
    Event.record, synchronize torch.cuda.Event                            noted
    graph_pool_handle()       torch.cuda.graph_pool_handle                a token
    CUDAGraph.capture_begin   torch.cuda.CUDAGraph                        records; wants a side stream, one at a time
    CUDAGraph.capture_end     torch.cuda.CUDAGraph                        stops; RuntimeError where the capture broke
    CUDAGraph.replay          torch.cuda.CUDAGraph                        the recorded operations
    memory_reserved(device)   torch.cuda.memory.memory_reserved           bytes of all recordings so far
    empty_cache()             torch.cuda.memory.empty_cache               noted
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from jackfield_platforms.testing.recording_graphs import Recording


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str, device: torch.device) -> None:
        self.cuda, self.name, self.device = cuda, name, device

    def wait_stream(self, other: FakeStream) -> None:
        self.cuda.events.append(f"{self.name} waits for {other.name}")


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda

    def record(self, stream: FakeStream) -> None:
        self.cuda.events.append(f"event on {stream.name}")

    def synchronize(self) -> None:
        self.cuda.events.append("host waits for event")


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.recording = cuda, Recording()

    def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
        stream = self.cuda.current_stream(torch.device("cpu"))
        if stream is self.cuda.default or self.cuda.capturing is not None:
            raise RuntimeError("captures need a stream of their own, one at a time")
        self.cuda.capturing = self
        self.cuda.captures.append((pool, capture_error_mode, stream.name))
        self.recording.start()

    def capture_end(self) -> None:
        self.cuda.capturing = None
        self.recording.stop()
        self.cuda.reserved += self.recording.num_bytes
        if self.cuda.breaks:
            raise RuntimeError("operation failed due to a previous error during capture")

    def replay(self) -> None:
        self.recording.replay()


class FakeCuda:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.captures: list[tuple[Any, str, str]] = []  # pool, mode, stream
        self.default = FakeStream(self, "default", torch.device("cpu"))
        self.streams = [self.default]
        self.capturing: FakeGraph | None = None
        self.reserved = self.made = 0
        self.breaks = False  # whether captures end in an error

    def Stream(self, device: torch.device) -> FakeStream:  # noqa: N802
        self.made += 1
        return FakeStream(self, f"side {self.made}", device)

    def Event(self) -> FakeEvent:  # noqa: N802
        return FakeEvent(self)

    def CUDAGraph(self) -> FakeGraph:  # noqa: N802
        return FakeGraph(self)

    def current_stream(self, device: torch.device) -> FakeStream:
        return self.streams[-1]

    @contextlib.contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        self.streams.append(stream)
        try:
            yield
        finally:
            self.streams.pop()

    def synchronize(self, device: torch.device) -> None:
        if self.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")

    def graph_pool_handle(self) -> str:
        return "pool"

    def empty_cache(self) -> None:
        self.events.append("cache emptied")

    def memory_reserved(self, device: torch.device) -> int:
        return self.reserved
