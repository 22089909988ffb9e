"""The functions that a device may replace, each chosen once, when a layer is built.

`OpTable` is a closed list: a platform gives its own implementations first, the plain-torch definitions of `reference`
come last and refuse nothing. `resolve` picks one of each for a dtype; layers keep the function and call it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from torch import Tensor

from jackfield_platforms import reference
from jackfield_platforms.communicator import Communicator
from jackfield_platforms.refusal import Choice, choose


class RMSNormFn(Protocol):
    def __call__(self, x: Tensor, weight: Tensor, eps: float) -> Tensor: ...


class ReduceAddRMSNormFn(Protocol):
    def __call__(
        self, partial: Tensor, residual: Tensor, weight: Tensor, eps: float, comm: Communicator
    ) -> tuple[Tensor, Tensor]: ...


class SiluMulFn(Protocol):
    def __call__(self, gate_up: Tensor) -> Tensor: ...


class ArgmaxFn(Protocol):
    def __call__(self, logits: Tensor) -> Tensor: ...


class PenalizeFn(Protocol):
    def __call__(self, logits: Tensor, seen: Tensor, places: Tensor, factors: Tensor) -> Tensor: ...


class SamplingThresholdFn(Protocol):
    def __call__(self, logits: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor: ...


class LoraAddFn(Protocol):
    def __call__(
        self, out: Tensor, x: Tensor, a: Tensor, b: Tensor, adapters: Tensor, out_sizes: Sequence[int]
    ) -> Tensor: ...


class RotaryFn(Protocol):
    def __call__(
        self, q: Tensor, k: Tensor, table: Tensor, positions: Tensor, interleaved: bool
    ) -> tuple[Tensor, Tensor]: ...


class OpSpec(msgspec.Struct, frozen=True):
    """What an implementation is asked about before it is chosen."""

    dtype: str


def _accepts(spec: OpSpec) -> str | None:
    return None


class Impl(msgspec.Struct, frozen=True):
    """One implementation of an op: `rejects(spec)` returns why it cannot serve, or None."""

    name: str
    fn: Callable[..., Any]
    rejects: Callable[[OpSpec], str | None] = _accepts


class OpTable(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates for each op, best first. A mistyped op is a TypeError; the reference is appended to each."""

    rms_norm: tuple[Impl, ...] = ()
    reduce_add_rms_norm: tuple[Impl, ...] = ()
    silu_mul: tuple[Impl, ...] = ()
    rotary: tuple[Impl, ...] = ()
    lora_add: tuple[Impl, ...] = ()
    argmax: tuple[Impl, ...] = ()
    penalize: tuple[Impl, ...] = ()
    sampling_threshold: tuple[Impl, ...] = ()


class Ops(msgspec.Struct, frozen=True, kw_only=True):
    """One function for each op; `chosen[op]` says which implementation it is and why better ones refused."""

    rms_norm: RMSNormFn
    reduce_add_rms_norm: ReduceAddRMSNormFn
    silu_mul: SiluMulFn
    rotary: RotaryFn
    lora_add: LoraAddFn
    argmax: ArgmaxFn
    penalize: PenalizeFn
    sampling_threshold: SamplingThresholdFn
    chosen: dict[str, Choice[Impl]]


class Unread(msgspec.Struct, frozen=True):
    """An implementation that a platform lists and that none of its dtypes takes; `why` says what stands before it."""

    op: str
    name: str
    why: str


def resolve(table: OpTable, spec: OpSpec) -> Ops:
    """Choose an implementation of every op for `spec`; the plain-torch definition is the last candidate."""
    chosen = {op: _chosen(table, op, spec) for op in OpTable.__struct_fields__}
    return Ops(**{op: choice.taken.fn for op, choice in chosen.items()}, chosen=chosen)


def unread_overrides(table: OpTable, dtypes: Sequence[str]) -> tuple[Unread, ...]:
    """What the platform's own table lists in vain: whatever dtype is served, another implementation is taken."""
    return tuple(
        Unread(op, impl.name, why)
        for op in OpTable.__struct_fields__
        for impl in getattr(table, op)
        if (why := _why_never(table, op, impl, dtypes)) is not None
    )


def _chosen(table: OpTable, op: str, spec: OpSpec) -> Choice[Impl]:
    candidates = (*getattr(table, op), Impl("torch", getattr(reference, op)))
    return choose(op, candidates, lambda impl: impl.rejects(spec), lambda impl: impl.name)


def _why_never(table: OpTable, op: str, impl: Impl, dtypes: Sequence[str]) -> str | None:
    """None if some dtype takes `impl`."""
    reasons: dict[str, list[str]] = {}  # the dtypes that each reason holds for
    for dtype in dtypes:
        taken = _chosen(table, op, OpSpec(dtype)).taken
        if taken is impl:
            return None
        refusal = impl.rejects(OpSpec(dtype))
        reasons.setdefault(refusal or f"{taken.name!r} is listed before it and serves", []).append(dtype)
    return "; ".join(f"{reason} ({', '.join(held)})" for reason, held in reasons.items())
