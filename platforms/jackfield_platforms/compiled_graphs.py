"""Graphs of devices whose compiler makes a program of a Python function: one for each key, into outputs that stay."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from jackfield_platforms.graph import GraphRunner, ProgramKey

Program = Callable[..., Any]


class _Compiled(msgspec.Struct, frozen=True, eq=False):
    program: Program
    outputs: Any


class CompiledGraphs(GraphRunner):
    """Runs what `compile(program)` returns, which takes what `program` takes and may compile when it is first called.

    Compiled programs make new tensors; each run copies them to where the first run's are, since later programs were
    compiled over those. A program that was not captured runs as it is.
    """

    def __init__(self, compile: Callable[[Program], Program]) -> None:
        self._compile = compile
        self._compiled: dict[ProgramKey, _Compiled] = {}

    @property
    def num_captures(self) -> int:
        """Programs captured so far."""
        return len(self._compiled)

    def is_captured(self, key: ProgramKey) -> bool:
        """Whether `run` runs a capture."""
        return key in self._compiled

    def capture(self, key: ProgramKey, program: Program, buffers: tuple[Any, ...]) -> int:
        compiled = self._compile(with_code_of_its_own(program))
        outputs = pytree.tree_map_only(Tensor, _kept, compiled(*buffers))
        self._compiled[key] = _Compiled(compiled, outputs)
        return sum(tensor.nbytes for tensor in pytree.tree_leaves(outputs) if isinstance(tensor, Tensor))

    def run(self, key: ProgramKey, program: Program, buffers: tuple[Any, ...]) -> Any:
        captured = self._compiled.get(key)
        if captured is None:
            return program(*buffers)
        kept, fresh = pytree.tree_leaves(captured.outputs), pytree.tree_leaves(captured.program(*buffers))
        for target, source in zip(kept, fresh, strict=True):
            if isinstance(target, Tensor):
                target.copy_(source)
        return captured.outputs


def _kept(output: Tensor) -> Tensor:
    """A copy by `copy_`, as each run makes it: what devices compile for the one serves the other."""
    return torch.empty_like(output).copy_(output)


def with_code_of_its_own(program: Program) -> Program:
    """`program`, called from a function whose code object is nobody else's.

    torch.compile keeps what it compiled by code object, tries all of it at each call, and gives up past a few
    (`recompile_limit`); so each size gets a code object.
    """

    def call(*buffers: Any) -> Any:
        return program(*buffers)

    code = call.__code__.replace(co_name="program")
    return types.FunctionType(code, call.__globals__, "program", None, call.__closure__)
