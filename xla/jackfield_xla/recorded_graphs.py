"""Programs that torch-xla records anew each time, between two launches, so that each is a graph by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from jackfield_platforms.graph import GraphRunner, ProgramKey
from jackfield_xla.graphs import launch

Program = Callable[..., Any]


class RecordedGraphs(GraphRunner):
    """Right wherever torch-xla is, and slow on the host: a model of 28 layers takes 24 ms to record.

    For several devices in one process, where graphs of torch.compile lose what a program writes in place (seen with
    torch-xla 2.9 over two devices of the processor).
    """

    def __init__(self) -> None:
        self._outputs: dict[ProgramKey, Any] = {}

    @property
    def num_captures(self) -> int:
        """Programs captured so far."""
        return len(self._outputs)

    def capture(self, key: ProgramKey, program: Program, buffers: tuple[Any, ...]) -> int:
        """Compile the program by running it."""
        launch()
        outputs = self._outputs[key] = program(*buffers)
        launch()
        return sum(tensor.nbytes for tensor in pytree.tree_leaves(outputs) if isinstance(tensor, Tensor))

    def run(self, key: ProgramKey, program: Program, buffers: tuple[Any, ...]) -> Any:
        launch()
        kept = self._outputs.get(key)
        if kept is None:
            kept = program(*buffers)
        else:
            _take(kept, program(*buffers))
        launch()
        return kept


def _take(kept: Any, fresh: Any) -> None:
    """Copy outputs to where the first are. The fresh ones are gone before the launch, which would keep each twice."""
    for target, source in zip(pytree.tree_leaves(kept), pytree.tree_leaves(fresh), strict=True):
        if isinstance(target, Tensor):
            target.copy_(source)
