"""A kernel as it would be compiled without a launch: which types its arguments have, and which are constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel with one tile. `benchmarks/gpu_compile.py` compiles each of these for each GPU ahead of time."""

    kernel: Any  # what `triton.jit` made
    name: str  # unique among those of its list
    signature: Mapping[str, str]  # arguments in order, as Triton writes types: "*bf16", "i32", "fp32"
    constexprs: Mapping[str, Any]
    num_warps: int
    num_stages: int
    aligned: tuple[str, ...] = ()  # integers that are multiples of 16 in usual models, as a launch would find out
