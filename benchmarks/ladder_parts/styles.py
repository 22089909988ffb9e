"""Which dimensions devices compile for, and how the scheduler shapes their steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from jackfield_platforms.bucket import Bucket, Limits, Phase
from jackfield_platforms.buckets.ladder import AnyLadder, Exponential, Linear, Listed, PaddingAware, PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.capabilities import SchedulingRules

Ladders = Mapping[str, AnyLadder]  # by dimension


class Dimension(msgspec.Struct, frozen=True):
    """One number of a launch: the least size that is worth a program of its own, and where an even ladder goes on."""

    phase: Phase
    low: int
    step: int


class Style(msgspec.Struct, frozen=True):
    """One kind of device."""

    name: str
    told: str  # its dimensions, for people
    rules: SchedulingRules
    limits: Limits
    dimensions: Mapping[str, Dimension]
    phases: Mapping[Phase, Callable[[Ladders, Limits], list[Bucket]]]

    def buckets(self, of: Ladders) -> tuple[Bucket, ...]:
        """Those of all phases, each once."""
        return tuple(dict.fromkeys(bucket for make in self.phases.values() for bucket in make(of, self.limits)))


LADDERS: dict[str, Callable[[Dimension], AnyLadder]] = {
    "exponential": lambda size: Exponential(low=size.low, step=size.low),
    "linear": lambda size: Linear(low=size.low, step=size.step),
    "pad": lambda size: PaddingAware(low=size.low, step=size.low, absolute=size.low),
    "pow2": lambda size: PowersOfTwo(low=size.low),
}
"""What is compared, beside sizes that are fitted to the trace."""


def _decode(of: Ladders, limits: Limits) -> list[Bucket]:
    return list(PhaseRule(phase="decode", rows=of["decode rows"], blocks=of["decode blocks"]).buckets(limits))


def _prompts(of: Ladders, limits: Limits) -> list[Bucket]:
    rule = PhaseRule(phase="prefill", rows=of["rows"], query=of["query"], blocks=of["blocks"])
    return _worthwhile(rule.buckets(limits), limits)


def _tokens_rows(of: Ladders, limits: Limits) -> list[Bucket]:
    return list(PhaseRule(phase="mixed", tokens=of["tokens"], rows=of["rows"]).buckets(limits))


def _generation(of: Ladders, limits: Limits) -> list[Bucket]:
    rows = Listed((limits.max_rows,))
    return list(PhaseRule(phase="decode", rows=rows, blocks=of["generation blocks"]).buckets(limits))


def _contexts(of: Ladders, limits: Limits) -> list[Bucket]:
    one = msgspec.structs.replace(limits, max_rows=1)
    rule = PhaseRule(phase="prefill", rows=Listed((1,)), query=of["context"], blocks=of["context blocks"])
    return _worthwhile(rule.buckets(one), limits)


def _worthwhile(buckets: Iterable[Bucket], limits: Limits) -> list[Bucket]:
    """Without those whose blocks hold fewer tokens than half a row's queries: a shorter one does all that they can."""
    return [
        bucket
        for bucket in buckets
        if bucket.max_blocks * limits.block_size * 2 > (bucket.query_len or 0) or bucket.max_blocks == limits.max_blocks
    ]


_APART = SchedulingRules(mixed=False, max_in_flight=1)
STYLES = (
    Style(
        "hpu",
        "rows x query x context blocks of 128",
        _APART,
        Limits(max_rows=64, max_tokens=2048, max_model_len=2048, block_size=128),
        {
            "decode rows": Dimension("decode", 1, 16),
            "decode blocks": Dimension("decode", 1, 4),
            "rows": Dimension("prefill", 1, 4),
            "query": Dimension("prefill", 128, 128),
            "blocks": Dimension("prefill", 1, 4),
        },
        {"decode": _decode, "prefill": _prompts},
    ),
    Style(
        "tpu",
        "tokens x rows",
        SchedulingRules(max_in_flight=1),
        Limits(max_rows=64, max_tokens=2048, max_model_len=2048, block_size=16),
        {"tokens": Dimension("mixed", 16, 128), "rows": Dimension("mixed", 8, 16)},
        {"mixed": _tokens_rows},
    ),
    Style(
        "neuron",
        "context length; generation length at all 64 rows",
        msgspec.structs.replace(_APART, max_prefills=1, chunk_multiple=128),
        Limits(max_rows=64, max_tokens=2048, max_model_len=2048, block_size=32),
        {
            "context": Dimension("prefill", 128, 128),
            "context blocks": Dimension("prefill", 4, 4),
            "generation blocks": Dimension("decode", 4, 4),
        },
        {"decode": _generation, "prefill": _contexts},
    ),
)
