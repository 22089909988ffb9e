"""What each ladder of bucket sizes would make of a recorded trace: graphs to capture, padding, cost, misses."""

from __future__ import annotations

import msgspec

from jackfield_platforms.bucket import Limits
from jackfield_platforms.buckets.fitted import fit_buckets
from jackfield_platforms.buckets.ladder import AnyLadder, CudaSizes, Exponential, Linear, PaddingAware, PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import StaticBuckets, StaticSizes
from jackfield_platforms.buckets.trace import Trace
from jackfield_platforms.buckets.usage import replay

FITTED = "fitted"
LADDERS: dict[str, AnyLadder] = {
    "exponential": Exponential(),
    "linear": Linear(),
    "pow2": PowersOfTwo(),
    "pad": PaddingAware(),
    "cuda": CudaSizes(),
}


class LadderUse(msgspec.Struct, frozen=True):
    """One ladder over one trace. `cost` is in tokens: launches, padded tokens and padded blocks together."""

    ladder: str
    graphs: int
    graphs_used: int
    launches: int
    misses: int
    token_waste: float  # share of the tokens that ran
    cost: float


def plan(name: str, limits: Limits, trace: Trace, budget: int) -> StaticBuckets:
    """Decode rows by rows and blocks, all else by tokens and blocks; ValueError for a ladder that there is not."""
    if name == FITTED:
        sizes = StaticSizes(buckets=fit_buckets(trace, limits, budget), block_size=limits.block_size)
        return StaticBuckets(msgspec.structs.replace(sizes, on_miss="round_up"))
    if name not in LADDERS:
        raise ValueError(f"ladder must be one of {', '.join((*LADDERS, FITTED))}; got {name!r}")
    ladder = LADDERS[name]
    rules = (
        PhaseRule(phase="decode", rows=ladder, blocks=ladder),
        PhaseRule(phase="mixed", tokens=ladder, blocks=ladder),
    )
    return StaticBuckets.of_rules(rules, limits, on_miss="round_up")


def compare(limits: Limits, trace: Trace, budget: int) -> list[LadderUse]:
    """Every ladder over the trace, the cheapest first."""
    uses = [_use(name, plan(name, limits, trace, budget), trace) for name in (*LADDERS, FITTED)]
    return sorted(uses, key=lambda use: use.cost)


def _use(name: str, plan: StaticBuckets, trace: Trace) -> LadderUse:
    usage = replay(plan, trace.steps)
    used = [(bucket, use) for bucket, use in usage.by_bucket.items() if bucket is not None]
    return LadderUse(
        ladder=name,
        graphs=len(plan.buckets()),
        graphs_used=len(used),
        launches=usage.launches,
        misses=usage.misses,
        token_waste=round(usage.waste, 4),
        cost=sum(use.launches * plan.cost(bucket) for bucket, use in used),
    )
