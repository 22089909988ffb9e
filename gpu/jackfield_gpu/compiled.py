"""A kernel as it is to be compiled ahead of time, checked against its own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from jackfield_attention.triton.signature import Signature


class Launch(msgspec.Struct, frozen=True):
    """How a kernel is launched, but for its grid."""

    num_warps: int
    num_stages: int = 1
    aligned: tuple[str, ...] = ()  # integers that are multiples of 16 in usual models, as a launch would find out


def signature(
    kernel: Any, name: str, types: Mapping[str, str], constexprs: Mapping[str, Any], launch: Launch
) -> Signature:
    """Types in the order of the kernel's parameters; ValueError names one that is missing, or that it does not have."""
    wanted, given = set(kernel.arg_names), types.keys() | constexprs.keys()
    if wanted != given:
        raise ValueError(f"{name}: {sorted(wanted - given)} are missing, and {sorted(given - wanted)} no parameters")
    ordered = {argument: types[argument] for argument in kernel.arg_names if argument in types}
    return Signature(
        kernel=kernel,
        name=name,
        signature=ordered,
        constexprs=dict(constexprs),
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        aligned=launch.aligned,
    )
