"""Torch's own compiler in the place of our kernels, for those who ask for it by JACKFIELD_CPU_KERNELS."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jackfield_attention.paged import PagedTorchAttention
from jackfield_cpu.kernels import SWITCH, TORCH_COMPILE
from jackfield_platforms.attention import LayerKV, Rope
from jackfield_platforms.graph import EagerRunner, ProgramKey


class CompiledPrograms(EagerRunner):
    """Runs programs through `torch.compile`, at any size; attention stays outside of what is compiled.

    Nothing is compiled before a program's first run, which takes a minute; size 1 is compiled apart from others.
    RuntimeError where there is no C++ compiler, which torch's needs.
    """

    def __init__(self) -> None:
        if not any(shutil.which(name) for name in ("g++", "c++", "clang++")):
            raise RuntimeError(
                f"{SWITCH}={TORCH_COMPILE} needs a C++ compiler; neither g++, c++ nor clang++ was found. "
                f"Install one, or leave {SWITCH} out"
            )
        self._compiled: dict[str, Callable[..., Any]] = {}

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        if key.program not in self._compiled:
            self._compiled[key.program] = torch.compile(program, dynamic=True)
        return self._compiled[key.program](*buffers)


class UncompiledAttention(PagedTorchAttention):
    """What the plan says of a step would be compiled in, and again for every other step."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def run(self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: Any, rope: Rope | None = None) -> Tensor:
        return super().run(q, k, v, layer, plan, rope)
