"""A graph runner that forbids what real ones cannot do, and would do silently wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from jackfield_platforms.attention import LayerKV
from jackfield_platforms.buffers import leaves, parts, tensors
from jackfield_platforms.graph import GraphRunner, Pieces, ProgramKey
from jackfield_platforms.testing.recording_graphs import RecordingGraphRunner


class StrictError(RuntimeError):
    """A program was used as no compiled one may be. The message says which, and what changed."""


class _Place(msgspec.Struct, frozen=True):
    """Where and what a captured tensor is; a replay reads the same memory in the same way."""

    address: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, tensor: Tensor) -> _Place:
        return cls(tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), str(tensor.dtype))


class _Capture(msgspec.Struct, eq=False):
    buffers: dict[str, Any]  # by path: _Place, or a plain value
    outputs: Any
    replays: int = 0


class StrictGraphRunner(GraphRunner):
    """Runs captured programs alone, only over the buffers that they were captured with, into outputs of its own.

    A replay is the program's own code: what is strict is what surrounds it. Before each run the outputs are poisoned
    with NaN; caches are poisoned before the first capture. With `compiles`, each program must also go through
    `torch.compile(fullgraph=True, dynamic=False)` and give the same numbers there.
    """

    def __init__(self, *, compiles: bool = False) -> None:
        self._compiles = compiles
        self._captures: dict[ProgramKey, _Capture] = {}
        self._pieces = StrictPieces()
        self._poisoned: set[int] = set()
        self.num_graph_breaks = 0

    @property
    def num_captures(self) -> int:
        """Programs and pieces captured so far."""
        return len(self._captures) + self._pieces.num_captures

    @property
    def replays(self) -> dict[ProgramKey, int]:
        """Runs of each captured program."""
        return {key: capture.replays for key, capture in self._captures.items()}

    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        if key in self._captures:
            raise StrictError(f"{_name(key)} is captured already; a second capture would leak the first")
        self._poison_caches(buffers)
        outputs = pytree.tree_map_only(Tensor, torch.clone, program(*buffers))
        self._captures[key] = _Capture(_places(buffers), outputs)
        if self._compiles:
            self._compile(key, program, buffers)
        return sum(tensor.nbytes for tensor in tensors(outputs).values())

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        capture = self._captures.get(key)
        if capture is None:
            raise StrictError(f"{_name(key)} was not captured; {self._known(key)}")
        _check_same(key, capture.buffers, _places(buffers))
        results = program(*buffers)
        _fill(capture.outputs, results, key)
        capture.replays += 1
        return capture.outputs

    def pieces(self) -> Pieces | str:
        return "programs are compiled whole" if self._compiles else self._pieces

    def _known(self, key: ProgramKey) -> str:
        same = [known for known in self._captures if known.program == key.program]
        return f"{len(same)} sizes of {key.program!r} were" if same else f"no size of {key.program!r} was"

    def _poison_caches(self, buffers: tuple[Any, ...]) -> None:
        for layer in _layers(buffers):
            for tensor in tensors(layer.cache).values():
                if tensor.data_ptr() not in self._poisoned and tensor.is_floating_point():
                    self._poisoned.add(tensor.data_ptr())
                    tensor.fill_(float("nan"))

    def _compile(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> None:
        """One graph of static shapes, whose outputs must be those of the program as it is."""
        torch._dynamo.reset()
        compiled = torch.compile(program, fullgraph=True, dynamic=False, backend="eager")
        try:
            results = compiled(*buffers)
        except torch._dynamo.exc.Unsupported as error:
            self.num_graph_breaks += 1
            raise StrictError(f"{_name(key)} does not compile as one graph: {error}") from error
        expected = tensors(self._captures[key].outputs)
        for path, tensor in tensors(results).items():
            if not torch.allclose(tensor.float(), expected[path].float(), rtol=1e-4, atol=1e-5, equal_nan=True):
                raise StrictError(f"{_name(key)} gives other numbers in {path} when it is compiled")


class StrictPieces(Pieces):
    """Pieces recorded operation by operation, and replayed only over the buffers that they were captured with."""

    def __init__(self) -> None:
        self._recorded = RecordingGraphRunner()
        self._buffers: dict[ProgramKey, dict[str, Any]] = {}

    @property
    def num_captures(self) -> int:
        """Pieces captured so far."""
        return self._recorded.num_captures

    def begin(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        if key in self._buffers:
            raise StrictError(f"{_name(key)} is captured already; a second capture would leak the first")
        self._buffers[key] = _places(buffers)
        self._recorded.begin(key, buffers)

    def end(self, key: ProgramKey) -> int:
        return self._recorded.end(key)

    def replay(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        if key not in self._buffers:
            raise StrictError(f"{_name(key)} was not captured")
        _check_same(key, self._buffers[key], _places(buffers))
        self._recorded.replay(key, buffers)


def _layers(value: Any) -> list[LayerKV]:
    if isinstance(value, LayerKV):
        return [value]
    return [found for _, part in parts(value) for found in _layers(part)]


def _places(buffers: tuple[Any, ...]) -> dict[str, Any]:
    return {
        path: _Place.of(leaf) if isinstance(leaf, Tensor) else leaf
        for index, buffer in enumerate(buffers)
        for path, leaf in leaves(buffer, f"buffer {index}")
    }


def _check_same(key: ProgramKey, captured: dict[str, Any], given: dict[str, Any]) -> None:
    for path in sorted(captured.keys() | given.keys()):
        before, now = captured.get(path, "nothing"), given.get(path, "nothing")
        if before != now:
            raise StrictError(f"{_name(key)} {_changed(path, before, now)}")


def _changed(path: str, before: Any, now: Any) -> str:
    field = path.rpartition(".")[2]
    if not isinstance(before, _Place) or not isinstance(now, _Place):
        return (
            f"was captured over {path} = {before}; it was run over {now}. A replay reads no Python value again: what "
            f"changes from step to step belongs in a tensor"
        )
    if before == msgspec.structs.replace(now, address=before.address):
        return (
            f"was captured over {path}, a tensor that has been replaced by another of the same shape: a replay reads "
            f"the old one, and would answer wrongly without an error. Somebody assigned `{field}` anew, as in "
            f"`{field} = ...`; write into the tensor that is there: `{field}.copy_(...)`"
        )
    return (
        f"was captured over {path} = {before}; it was run over {now}. Shapes and strides follow from the bucket alone"
    )


def _fill(outputs: Any, results: Any, key: ProgramKey) -> None:
    """Copy results into the captured outputs, which may be among what the program reads: so only once it is done."""
    kept, fresh = tensors(outputs, "output"), tensors(results, "output")
    if kept.keys() != fresh.keys():
        raise StrictError(f"{_name(key)} gave {sorted(fresh)}; when it was captured it gave {sorted(kept)}")
    for path, tensor in kept.items():
        if tensor.shape != fresh[path].shape or tensor.dtype != fresh[path].dtype:
            raise StrictError(
                f"{_name(key)} gave {path} of {tuple(fresh[path].shape)} {fresh[path].dtype}; when it was captured it "
                f"gave {tuple(tensor.shape)} {tensor.dtype}"
            )
        tensor.copy_(fresh[path])


def _name(key: ProgramKey) -> str:
    piece = "" if key.piece is None else f"piece {key.piece} of "
    return f"{piece}program {key.program!r} at {key.bucket.describe()}"
