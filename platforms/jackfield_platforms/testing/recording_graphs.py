"""A graph runner that behaves as stream captures do, on any laptop: it records operations and replays those alone.

A capture keeps each torch operation with the tensors that it read and wrote; a replay runs them again, from and into
the same memory. Python is not asked a second time, so a value that was computed on the host stays what it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from jackfield_platforms.graph import GraphRunner, Pieces, ProgramKey
from jackfield_platforms.testing.source_line import calling_line

_HOST_READS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class RecordingError(RuntimeError):
    """A program did what a capture cannot hold, or what was never captured was run."""


class _Call(msgspec.Struct, frozen=True, eq=False):
    operation: Any
    args: tuple[Any, ...]
    options: dict[str, Any]
    made: list[tuple[int, Tensor]]  # (place among the results, tensor) of what is new memory

    def __call__(self) -> None:
        results = pytree.tree_leaves(self.operation(*self.args, **self.options))
        for place, tensor in self.made:
            shape = results[place].shape
            if shape != tensor.shape:
                raise RecordingError(f"{self.operation} gave {tuple(shape)}; when captured {tuple(tensor.shape)}")
            tensor.copy_(results[place])


class Recording(TorchDispatchMode):
    """The operations between `start` and `stop`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[_Call] = []

    @property
    def num_bytes(self) -> int:
        """Bytes of all that the operations make."""
        return sum(tensor.nbytes for call in self._calls for _, tensor in call.made)

    def start(self) -> None:
        """Record from now on."""
        self.__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """Record no more. What was made holds NaN until the first replay: a real capture computes nothing."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for call in self._calls:
            for _, tensor in call.made:
                if tensor.is_floating_point():
                    tensor.fill_(float("nan"))

    def replay(self) -> None:
        """The operations again, in order."""
        for call in self._calls:
            call()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if _reads_on_the_host(func, args):
            raise RecordingError(_not_held(f"{func} reads a tensor's values on the host"))
        result = func(*args, **options)
        leaves = pytree.tree_leaves(result)
        if any(isinstance(leaf, (bool, int, float)) for leaf in leaves):
            raise RecordingError(_not_held(f"{func} gives a number to the host"))
        given = {_storage(leaf) for leaf in pytree.tree_leaves((args, options)) if isinstance(leaf, Tensor)}
        made = [(i, leaf) for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and _storage(leaf) not in given]
        if made or func._schema.is_mutable:  # otherwise a view: it stays where it is
            self._calls.append(_Call(func, args, options, made))
        return result


class RecordingGraphRunner(GraphRunner, Pieces):
    """Captures whole programs and pieces. `launches` counts the replays of each."""

    def __init__(self) -> None:
        self.launches: Counter[ProgramKey] = Counter()
        self._recordings: dict[ProgramKey, Recording] = {}
        self._outputs: dict[ProgramKey, Any] = {}

    @property
    def num_captures(self) -> int:
        """Programs and pieces captured so far."""
        return len(self._recordings)

    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        self.begin(key, buffers)
        try:
            self._outputs[key] = program(*buffers)
        finally:
            num_bytes = self.end(key)
        return num_bytes

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        self.replay(key, buffers)
        return self._outputs[key]

    def pieces(self) -> Pieces | str:
        return self

    def begin(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        if key in self._recordings:
            raise RecordingError(f"{key} is captured already; a second capture would leak the first")
        self._recordings[key] = Recording()
        self._recordings[key].start()

    def end(self, key: ProgramKey) -> int:
        recording = self._recordings[key]
        recording.stop()
        return recording.num_bytes

    def replay(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        if key not in self._recordings:
            raise RecordingError(f"{key} was not captured")
        self.launches[key] += 1
        self._recordings[key].replay()


def _reads_on_the_host(func: Any, args: tuple[Any, ...]) -> bool:
    if func is torch.ops.aten.index.Tensor:  # of a computed size only where an index is a mask
        return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
    return any(tag in func.tags for tag in _HOST_READS)


def _not_held(what: str) -> str:
    line = calling_line()
    return (
        f"{what}, which no capture can hold{f' (at {line})' if line else ''}: `.item()`, `.tolist()`, an `if` on a "
        "tensor, a mask as an index. Keep the value in a tensor (torch.where, index_select), or compute it in `plan`"
    )


def _storage(tensor: Tensor) -> int:
    identity: int = tensor.untyped_storage()._cdata
    return identity
