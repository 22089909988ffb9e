"""Capturing a step once and replaying it. The default runner captures nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import msgspec

from jackfield_platforms.bucket import Bucket


class ProgramKey(msgspec.Struct, frozen=True):
    """What identifies a captured program: which part of the model, at which size, in which variant."""

    program: str  # "embed", "forward" or "logits"
    bucket: Bucket
    variant: str = ""


class GraphRunner(ABC):
    """Runs a model's programs over persistent buffers, from a capture where there is one."""

    @abstractmethod
    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        """Record `program(*buffers)`; returns the bytes that the capture took.

        The buffers' tensors stay where they are and are filled anew before each run. The program may be run to record
        it; running it twice does no harm.
        """

    @abstractmethod
    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        """What `program(*buffers)` returns. After a capture with this key it is always the same tensors, since other
        programs are captured over them.
        """


class EagerRunner(GraphRunner):
    """No capture: every call runs the program."""

    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        return 0

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        return program(*buffers)
