"""The launches as one operator, for torch.compile: it does not look into Triton's launcher, and need not.

A plan and a backend cannot be an operator's arguments; their numbers are, and lead to the objects while these live.
"""

from __future__ import annotations

from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from jackfield_attention.triton.launch import LayerTensors
from jackfield_attention.triton.plan import TritonPlan
from jackfield_platforms.attention import Rope

_numbers = count(1)
_objects: WeakValueDictionary[int, Any] = WeakValueDictionary()

_SCHEMA = (
    "(Tensor q, Tensor k, Tensor v, Tensor(a!) k_cache, Tensor(b!)? v_cache, Tensor?[] layer, Tensor numbers, "
    "Tensor? angles, Tensor? positions, bool interleaved, int backend, int plan) -> Tensor"
)


def numbered(thing: Any) -> int:
    """A number by which the operator finds `thing`."""
    number = next(_numbers)
    _objects[number] = thing
    return number


def run_traced(
    backend: int, step: tuple[Tensor, Tensor, Tensor], layer: LayerTensors, plan: TritonPlan, rope: Rope | None
) -> Tensor:
    """What the backend's `launch` does, as one node of a graph."""
    q, k, v = step
    more = [layer.sinks, layer.slopes, layer.k_scale, layer.v_scale]
    angles, positions, interleaved = (
        (None, None, False) if rope is None else (rope.table, rope.positions, rope.interleaved)
    )
    out: Tensor = torch.ops.jackfield_attention.triton_run(
        q, k, v, layer.k_cache, layer.v_cache, more, plan.numbers, angles, positions, interleaved, backend, plan.number
    )
    return out


def _run(
    q: Tensor, k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor | None, layer: list[Tensor | None],
    numbers: Tensor, angles: Tensor | None, positions: Tensor | None, interleaved: bool, backend: int, plan: int,
) -> Tensor:  # fmt: skip
    rope = None if angles is None or positions is None else Rope(angles, positions, interleaved)
    out: Tensor = _objects[backend].launch((q, k, v), LayerTensors(k_cache, v_cache, *layer), _objects[plan], rope)
    return out


def _shape_of_run(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> Tensor:
    return q.new_empty(q.shape[0], q.shape[1], v.shape[-1])


_operator = torch.library.custom_op(
    "jackfield_attention::triton_run", _run, mutates_args=("k_cache", "v_cache"), schema=_SCHEMA
)
_operator.register_fake(_shape_of_run)
