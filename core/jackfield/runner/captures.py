"""Programs by name and size: captured once, then run over the same buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import GraphRunner, ProgramKey

Program = Callable[..., Any]


class Captures:
    """A graph runner, and how many bytes the captures took that were made through this object."""

    def __init__(self, graphs: GraphRunner) -> None:
        self.graphs = graphs
        self.num_bytes = 0

    def capture(self, name: str, size: Bucket | int, program: Program, *buffers: Any, variant: str = "") -> Any:
        """Capture, then run. A size that is a number is one of positions, whatever phase they are of."""
        key = _key(name, size, variant)
        self.num_bytes += self.graphs.capture(key, program, buffers)
        return self.graphs.run(key, program, buffers)

    def run(self, name: str, size: Bucket | int, program: Program, *buffers: Any, variant: str = "") -> Any:
        """What the program returns; of a captured one always the same tensors."""
        return self.graphs.run(_key(name, size, variant), program, buffers)


def _key(name: str, size: Bucket | int, variant: str) -> ProgramKey:
    bucket = size if isinstance(size, Bucket) else Bucket("decode", num_rows=size, num_tokens=size)
    return ProgramKey(name, bucket, variant)
