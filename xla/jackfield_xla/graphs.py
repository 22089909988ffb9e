"""One graph a program: traced once, then handed to the runtime again and again.

`torch.compile` with the backend of torch-xla (PyTorch/XLA documentation, "TorchDynamo Integration") traces a program
when it is captured. A run passes the compiled graph its inputs and records no operation; recorded anew, as torch-xla
does otherwise, a model of 28 layers costs the host more than most devices need to run it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from jackfield_platforms.attention import LayerKV
from jackfield_platforms.buffers import parts, tensors
from jackfield_platforms.compiled_graphs import CompiledGraphs
from jackfield_platforms.graph import ProgramKey

Program = Callable[..., Any]


class XlaGraphs(CompiledGraphs):
    """Compiles each program as one graph, in which caches of attention are written where they lie.

    What was recorded outside of programs is launched before one is captured, so that it is no part of its graph; a
    captured one reads it computed, since the backend launches what its inputs wait for.
    """

    def __init__(self) -> None:
        super().__init__(one_graph)

    def capture(self, key: ProgramKey, program: Program, buffers: tuple[Any, ...]) -> int:
        launch()
        taken = super().capture(key, writing_in_place(program, cached(buffers)), buffers)
        launch()
        return taken

    def run(self, key: ProgramKey, program: Program, buffers: tuple[Any, ...]) -> Any:
        if self.is_captured(key):
            return super().run(key, program, buffers)
        launch()
        outputs = program(*buffers)
        launch()
        return outputs


def launch() -> None:
    """Hand the runtime what was recorded so far, without a wait (`torch_xla.sync`)."""
    import torch_xla

    torch_xla.sync()


def one_graph(program: Program) -> Program:
    """`program`, compiled through torch-xla without a graph break.

    No guard is kept: who calls it gives it buffers of one key, whose shapes and plain values never change.
    """
    options: dict[str, str | int | bool | Callable[..., Any]] = {"guard_filter_fn": _none_of}
    return torch.compile(program, backend="openxla", fullgraph=True, dynamic=False, options=options)


def _none_of(guards: Sequence[Any]) -> list[bool]:
    return [False] * len(guards)


def writing_in_place(program: Program, caches: Sequence[Tensor]) -> Program:
    """`program`, which may write into the memory of `caches` instead of making new ones.

    XLA's programs change nothing in place: without this a step copies every cache whole. A graph that torch.compile
    makes has to be told which inputs it may use up (`torch.ops.xla.dynamo_set_buffer_donor_`, pytorch/xla pull request
    6587); each call does so anew, since what a graph returns is not marked.
    """
    if not caches:
        return program

    def call(*buffers: Any) -> Any:
        for cache in caches:
            torch.ops.xla.dynamo_set_buffer_donor_(cache, True)
        return program(*buffers)

    return call


def cached(buffers: Any) -> list[Tensor]:
    """The tensors of every attention cache among what a program is given, each once."""
    if isinstance(buffers, LayerKV):
        return list(tensors(buffers.cache).values())
    found = [tensor for _, part in parts(buffers) for tensor in cached(part)]
    return list({id(tensor): tensor for tensor in found}.values())
