"""Sizes fitted to a run: of each dimension the best few, and of all divisions of a budget of graphs the cheapest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jackfield_platforms.bucket import Bucket, Phase, RowSizes
from jackfield_platforms.buckets.fitted import fit_sizes
from jackfield_platforms.buckets.ladder import Listed
from jackfield_platforms.buckets.static_plan import StaticBuckets, StaticSizes
from jackfield_platforms.buckets.trace import Trace
from jackfield_platforms.buckets.usage import replay
from ladder_parts.styles import Ladders, Style

_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)  # sizes of one dimension
LAUNCH_COST, KEY_COST = 256.0, 1 / 512
"""In tokens: all weights are read once a launch, and a token's keys and values once (an 8B model at 230 operations for
each byte that is read)."""
_SAMPLE = 200  # steps of a phase, evenly spread, that divisions are judged by


class Choice(NamedTuple):
    """One phase with so many sizes of each dimension."""

    cost: float  # of the phase's steps, in tokens
    buckets: tuple[Bucket, ...]


def fitted(style: Style, trace: Trace, budget: int) -> StaticBuckets:
    """The plan of at most `budget` buckets that costs least; ValueError when no division has so few."""
    choices = [list(_choices(style, phase, _steps(phase, trace), budget)) for phase in style.phases]
    together = (
        (sum(choice.cost for choice in picked), tuple(bucket for choice in picked for bucket in choice.buckets))
        for picked in itertools.product(*choices)
        if sum(len(choice.buckets) for choice in picked) <= budget
    )
    best = min(together, default=None, key=lambda one: one[0])
    if best is None:
        raise ValueError(f"{style.name}: no division of {budget} graphs among the dimensions has so few")
    return planned(style, best[1])


def planned(style: Style, buckets: tuple[Bucket, ...]) -> StaticBuckets:
    """The plan of these buckets; what they do not hold is rounded up, and counted."""
    size = style.limits.block_size
    return StaticBuckets(
        StaticSizes(
            buckets=buckets,
            block_size=size,
            on_miss="round_up",
            launch_cost=LAUNCH_COST,
            block_cost=size * KEY_COST,
        )
    )


def _choices(style: Style, phase: Phase, steps: list[RowSizes], budget: int) -> Iterator[Choice]:
    names = [name for name, dimension in style.dimensions.items() if dimension.phase == phase]
    ladders = [_fits(style, name, steps) for name in names]
    sample = steps[:: max(1, len(steps) // _SAMPLE)]
    for picked in itertools.product(*ladders):
        if np.prod([len(ladder.values) for ladder in picked]) > budget:
            continue
        of: Ladders = dict(zip(names, picked, strict=True))
        buckets = tuple(dict.fromkeys(style.phases[phase](of, style.limits)))
        plan = planned(style, buckets)
        used = replay(plan, sample).by_bucket
        cost = sum(use.launches * plan.cost(bucket) for bucket, use in used.items() if bucket is not None)
        yield Choice(cost * len(steps) / len(sample), buckets)


def _fits(style: Style, name: str, steps: list[RowSizes]) -> list[Listed]:
    """The best sizes of one dimension, by how many there may be."""
    found = fit_sizes(_seen(style, name, steps).tolist(), _limit(style, name), max(_COUNTS))
    return [found[count - 1] for count in _COUNTS if count <= len(found)]


def _limit(style: Style, name: str) -> int:
    limits = style.limits
    if "blocks" in name:
        return limits.max_blocks
    if "rows" in name:
        return limits.max_rows
    return limits.max_tokens if name == "tokens" else min(limits.max_tokens, limits.max_model_len)


def _steps(phase: Phase, trace: Trace) -> list[RowSizes]:
    """Those of one phase: a step is of one phase alone where the scheduler's rules keep them apart."""
    if phase == "mixed":
        return list(trace.steps)
    return [step for step in trace.steps if bool((step.num_new == 1).all()) == (phase == "decode")]


def _seen(style: Style, name: str, steps: list[RowSizes]) -> npt.NDArray[np.int64]:
    """What the dimension was in each step."""
    if "blocks" in name:
        return np.array([-(-int(step.kv_len.max()) // style.limits.block_size) for step in steps])
    if "rows" in name:
        return np.array([len(step) for step in steps])
    if name == "tokens":
        return np.array([int(step.num_new.sum()) for step in steps])
    return np.array([int(step.num_new.max()) for step in steps])
