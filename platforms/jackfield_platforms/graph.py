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
    piece: int | None = None  # which stretch between two cuts, from 0 on; None: the whole program


class Pieces(ABC):
    """Captures a program in stretches: the core cuts it where it must run something itself, such as attention that no
    capture may hold.

    The core runs the program once as it is, then once more between `begin` and `end`, which it calls anew at each cut.
    Each piece has a key of its own. Pieces are replayed in the order in which they were captured, all of them before
    another program's; between two of them the core runs operations of its own on the device, in order.
    """

    @abstractmethod
    def begin(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        """From now on, what this thread launches is recorded as the piece `key`. It may stay without values.

        `buffers` is what the whole program reads; beside it a piece reads what earlier pieces made, and bridges that
        the core owns, writes, and keeps where they are.
        """

    @abstractmethod
    def end(self, key: ProgramKey) -> int:
        """The piece is complete; returns the bytes that it took. Called also when the program failed in the middle.

        Tensors made in the piece that are alive now may be read by later pieces.
        """

    @abstractmethod
    def replay(self, key: ProgramKey, buffers: tuple[Any, ...]) -> None:
        """Run a piece: the same operations, from and to where they were captured."""


class Elastic(ABC):
    """Captures a program once for every number of tokens, where padding would cost as much as tokens do.

    What such a program reads and makes has a row for each token, or as many rows for each, and lies dense in its rows;
    attention reads in its plan how many there are. So a run of fewer tokens works on the first rows of everything.
    """

    @abstractmethod
    def capture(
        self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...], num_tokens: int
    ) -> int | str:
        """Record `program(*buffers)`, which are of `num_tokens` tokens; the bytes that the capture took, or why it
        cannot be: the core then runs the program as it is, and says so at start-up.

        The buffers' tensors stay where they are and are filled anew before each run. Nothing need be computed now.
        """

    @abstractmethod
    def run(self, key: ProgramKey, num_tokens: int) -> Any:
        """Run for 0 to as many tokens as were captured. Always the same tensors, of which the first rows are new."""


class GraphRunner(ABC):
    """Runs a model's programs over persistent buffers, from a capture where there is one."""

    # required
    @abstractmethod
    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        """Record `program(*buffers)`; returns the bytes that the capture took.

        The buffers' tensors stay where they are and are filled anew before each run. The program may be run to record
        it; running it twice does no harm. It returns tensors in dicts and tuples, none where it writes into buffers.
        """

    @abstractmethod
    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        """What `program(*buffers)` returns. After a capture with this key it is always the same tensors, since other
        programs are captured over them.
        """

    # optional
    captures: bool = True  # whether it captures at all

    def pieces(self) -> Pieces | str:
        """How to capture a program in pieces, or why that cannot be."""
        return "it captures whole programs only"

    def elastic(self) -> Elastic | str:
        """How to capture programs at no size in particular, or why that cannot be. Asked where no sizes are planned."""
        return "a capture has one size"


class EagerRunner(GraphRunner):
    """No capture: every call runs the program."""

    captures = False

    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        return 0

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        return program(*buffers)
