"""Recording what is launched on a stream into a graph: what whole programs and pieces have in common.

torch.cuda.CUDAGraph is CUDA's graphs on NVIDIA and HIP's on AMD. The rules are those of torch's notes on CUDA
semantics, "CUDA Graphs": work is warmed up on a side stream before it is captured on one; graphs that are replayed in
the order of their capture, one at a time, may share a memory pool; one that shares it is captured on the same stream.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

import torch

_HINT = (
    "A capture holds no `.item()`, `.tolist()` or `if` on a tensor, no mask as an index, no wait for the device, no "
    "copy from or to pageable host memory, and no kernel that is compiled while it runs"
)


class CaptureError(RuntimeError):
    """What a program did cannot be captured, or the runner was used as it may not be."""


def refused(name: str, error: RuntimeError) -> CaptureError:
    """The error for a program that cannot be captured, with what captures cannot hold."""
    return CaptureError(f"{name} cannot be captured: {error}. {_HINT}")


class Capture:
    """A graph that is being recorded, from its making to `close`."""

    def __init__(self, name: str, stream: Any, pool: Any, cuda: Any) -> None:
        self._name, self._cuda, self._device = name, cuda, stream.device
        self._reserved = cuda.memory_reserved(stream.device)
        self._graph = cuda.CUDAGraph()
        stream.wait_stream(cuda.current_stream(stream.device))
        cuda.synchronize(stream.device)
        self._streaming: AbstractContextManager[Any] = cuda.stream(stream)
        self._streaming.__enter__()
        try:
            # other threads of this process may call the driver meanwhile: NCCL's watchdog does
            self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        except BaseException:
            self._streaming.__exit__(None, None, None)
            raise

    def close(self) -> tuple[Any, int]:
        """The graph, and the bytes by which the pool grew. CaptureError when the driver gave the capture up.

        While another error is on its way the driver's own, which follows from it, is not raised.
        """
        failing = sys.exc_info()[1] is not None
        try:
            self._graph.capture_end()
        except RuntimeError as error:
            if not failing:
                raise refused(self._name, error) from error
        finally:
            self._streaming.__exit__(None, None, None)
        return self._graph, max(0, self._cuda.memory_reserved(self._device) - self._reserved)


class Recorder:
    """Makes captures that share one memory pool and one stream. `cuda` is `torch.cuda`, or what behaves like it."""

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device, self._cuda = device, cuda
        self._stream = cuda.Stream(device)
        self._pool = cuda.graph_pool_handle()

    def begin(self, name: str, *, is_first: bool = True) -> Capture:
        """From now on, what this thread launches is recorded; `name` is for messages.

        Before the first capture of a program, memory that torch keeps for later is given back to the driver: none can
        be while a capture is under way, and the pool may have to grow.
        """
        if is_first:
            self._cuda.empty_cache()
        return Capture(name, self._stream, self._pool, self._cuda)

    def warm_up(self, program: Any, buffers: tuple[Any, ...]) -> None:
        """Run a program as it is on the stream of captures: kernels are compiled, libraries make their workspaces."""
        before = self._cuda.current_stream(self._device)
        self._stream.wait_stream(before)
        with self._cuda.stream(self._stream):
            program(*buffers)
        before.wait_stream(self._stream)
