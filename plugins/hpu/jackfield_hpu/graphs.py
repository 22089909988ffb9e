"""HPU graphs of lazy mode: programs that are recorded once and replayed over the tensors that they are given.

`habana_frameworks.torch.hpu.wrap_in_hpu_graph(module, disable_tensor_cache=True)` (Intel Gaudi documentation, "Run
Inference Using HPU Graphs"; gaudi-pytorch-bridge, `torch/hpu/graphs.py`) records a module's forward at its first call.
It knows a recording by a hash of the arguments, plain values among them: so a program gets tensors and nothing else,
each once. Without its cache of tensors it reads arguments where they lie, copies none, and answers with the same
tensors each time. `htcore.mark_step()` launches what lazy mode has collected, here so that each program is a graph by
itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from jackfield_hpu.vendor import module
from jackfield_platforms.buffers import tensors
from jackfield_platforms.graph import GraphRunner, ProgramKey

Program = Callable[..., Any]


class _Recorded(msgspec.Struct, frozen=True, eq=False):
    module: nn.Module
    arguments: tuple[Tensor, ...]
    structure: list[Any]  # of the outputs, once it has run: a pytree's


class HpuGraphs(GraphRunner):
    """A graph for each key. A program that was not captured runs as it is."""

    def __init__(self) -> None:
        self._hpu, self._core = module("hpu"), module("core")
        self._recorded: dict[ProgramKey, _Recorded] = {}

    @property
    def num_captures(self) -> int:
        """Programs captured so far."""
        return len(self._recorded)

    def capture(self, key: ProgramKey, program: Program, buffers: tuple[Any, ...]) -> int:
        before: int = self._hpu.memory_allocated()
        arguments = tuple({id(tensor): tensor for tensor in tensors(buffers).values()}.values())
        structure: list[Any] = []
        wrapped = self._hpu.wrap_in_hpu_graph(_Forward(program, buffers, structure), disable_tensor_cache=True)
        self._recorded[key] = _Recorded(wrapped, arguments, structure)
        self.run(key, program, buffers)
        taken: int = self._hpu.memory_allocated() - before
        return max(taken, 0)

    def run(self, key: ProgramKey, program: Program, buffers: tuple[Any, ...]) -> Any:
        recorded = self._recorded.get(key)
        self._core.mark_step()
        if recorded is None:
            outputs = program(*buffers)
        else:
            leaves = recorded.module(*recorded.arguments)
            outputs = pytree.tree_unflatten(leaves, recorded.structure[0])
        self._core.mark_step()
        return outputs


class _Forward(nn.Module):
    """A program over its own buffers, whose tensors are its arguments; it gives its outputs' leaves."""

    def __init__(self, program: Program, buffers: tuple[Any, ...], structure: list[Any]) -> None:
        super().__init__()
        self._program, self._given, self._structure = program, buffers, structure

    def forward(self, *arguments: Tensor) -> tuple[Any, ...]:
        leaves, structure = pytree.tree_flatten(self._program(*self._given))
        self._structure[:] = [structure]
        return tuple(leaves)


def compile_program(program: Program) -> Program:
    """A program for the other mode: `torch.compile(backend="hpu_backend")` (Intel Gaudi documentation, "PyTorch Gaudi
    Theory of Operations"), one graph of static shapes.
    """
    compiled: Program = torch.compile(program, backend="hpu_backend", fullgraph=True, dynamic=False)
    return compiled
