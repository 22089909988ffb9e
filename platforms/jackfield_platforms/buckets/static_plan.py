"""A plan of static sizes: its buckets, where a step is placed among them, and what becomes of one that fits nowhere."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from jackfield_platforms.bucket import Bucket, BucketPlan, Limits, Phase, Placement, RowSizes, phase_of
from jackfield_platforms.buckets.bucket_table import BucketTable, Need
from jackfield_platforms.buckets.phase_rule import PhaseRule

Ints = npt.NDArray[np.int32]
MissPolicy = Literal["eager", "round_up", "compile", "error"]
_PHASES: tuple[Phase, ...] = ("prefill", "decode", "mixed")
_KEPT = 4096  # placements remembered

logger = logging.getLogger(__name__)


class BucketMissError(RuntimeError):
    """A step fits no planned bucket, and the plan forbids others. The message names the sizes."""


class StaticSizes(msgspec.Struct, frozen=True, kw_only=True):
    """A plan as data, to save and to load.

    A launch costs `launch_cost + num_tokens + block_cost * blocks`, in tokens: placement takes the cheapest. `on_miss`
    says what becomes of rows that no bucket holds: `eager` runs them uncaptured at their own size, `round_up` makes a
    bucket of the next powers of two, `compile` does so with a warning, `error` fails the step.
    """

    buckets: tuple[Bucket, ...]
    block_size: int
    on_miss: MissPolicy = "compile"
    launch_cost: float = 64.0
    block_cost: float = 1.0


class StaticBuckets(BucketPlan):
    """Places steps into planned buckets. A mixed step becomes several launches where that is cheaper."""

    def __init__(self, sizes: StaticSizes) -> None:
        if not sizes.buckets:
            raise ValueError("a plan of static sizes needs at least one bucket")
        self.sizes = sizes
        self._take(sizes.buckets)
        decode = [bucket for bucket in sizes.buckets if bucket.phase == "decode"]
        self._longest_decode = max((bucket.query_len or 1 for bucket in decode), default=1)
        verified = {bucket.num_tokens for bucket in decode}  # every token of a decode row is sampled behind
        self._sampling_sizes = sorted({bucket.num_rows for bucket in sizes.buckets} | verified)

    @classmethod
    def of_rules(
        cls, rules: Iterable[PhaseRule], limits: Limits, *, on_miss: MissPolicy = "compile", launch_cost: float = 64.0
    ) -> StaticBuckets:
        """The plan of all buckets that `rules` make within `limits`."""
        buckets = tuple(dict.fromkeys(bucket for rule in rules for bucket in rule.buckets(limits)))
        return cls(StaticSizes(buckets=buckets, block_size=limits.block_size, on_miss=on_miss, launch_cost=launch_cost))

    @classmethod
    def from_json(cls, text: str | bytes) -> StaticBuckets:
        """The plan that `to_json` wrote; ValidationError names the field at fault."""
        return cls(msgspec.json.decode(text, type=StaticSizes))

    def to_json(self) -> bytes:
        """The plan as JSON."""
        return msgspec.json.format(msgspec.json.encode(self.sizes))

    def strict(self) -> StaticBuckets:
        """The same plan, with a miss an error."""
        return StaticBuckets(msgspec.structs.replace(self.sizes, on_miss="error"))

    @property
    def is_strict(self) -> bool:
        return self.sizes.on_miss == "error"

    def cost(self, bucket: Bucket) -> float:
        """What a launch in `bucket` costs, in tokens."""
        blocks = bucket.num_blocks or bucket.num_rows * bucket.max_blocks
        return self.sizes.launch_cost + bucket.num_tokens + self.sizes.block_cost * blocks

    def buckets(self) -> tuple[Bucket, ...]:
        return tuple(sorted(self.sizes.buckets, key=self.cost, reverse=True))

    def place(self, need: RowSizes) -> tuple[Placement, ...]:
        blocks = -(-need.kv_len // self.sizes.block_size)
        num_decode = _num_leading(need.num_new, self._longest_decode)
        split = [
            *self._segments(need, blocks, "decode", (0, num_decode)),
            *self._segments(need, blocks, "prefill", (num_decode, len(need))),
        ]
        whole = self._find(phase_of(need.num_new), _need(need, blocks, (0, len(need))))
        if whole is not None and self._is_cheaper(whole, split):
            return (Placement(whole, (0, len(need)), captured=True),)
        return tuple(
            Placement(bucket, rows, captured=True) if bucket is not None else self._missed(need, blocks, rows)
            for bucket, rows in split
        )

    def sampling_rows(self, num_rows: int) -> int:
        return self._sampling_sizes[bisect.bisect_left(self._sampling_sizes, num_rows)]

    def sampling_sizes(self) -> tuple[int, ...]:
        return tuple(self._sampling_sizes)

    def _segments(
        self, need: RowSizes, blocks: Ints, phase: Phase, rows: tuple[int, int]
    ) -> list[tuple[Bucket | None, tuple[int, int]]]:
        """The cheapest cut of consecutive rows into launches of a phase; a part without a bucket is a miss."""
        first, last = rows
        if first == last:
            return []
        found = self._find(phase, _need(need, blocks, rows))
        if last - first == 1 or (found is not None and not self._worth_splitting(found, need, blocks, rows)):
            return [(found, rows)]
        middle = (first + last) // 2
        parts = [
            *self._segments(need, blocks, phase, (first, middle)),
            *self._segments(need, blocks, phase, (middle, last)),
        ]
        return parts if found is None or not self._is_cheaper(found, parts) else [(found, rows)]

    def _worth_splitting(self, found: Bucket, need: RowSizes, blocks: Ints, rows: tuple[int, int]) -> bool:
        """Whether two launches could cost less: their fixed costs must be among what the padding costs."""
        first, last = rows
        real = float(need.num_new[first:last].sum()) + self.sizes.block_cost * float(blocks[first:last].sum())
        return self.cost(found) - self.sizes.launch_cost - real > self.sizes.launch_cost

    def _is_cheaper(self, one: Bucket, several: Sequence[tuple[Bucket | None, tuple[int, int]]]) -> bool:
        costs = [self.cost(bucket) if bucket is not None else float("inf") for bucket, _ in several]
        return self.cost(one) <= sum(costs)

    def _take(self, buckets: tuple[Bucket, ...]) -> None:
        """Place into these from now on."""
        self._held = buckets
        self._tables = {phase: BucketTable(_serving(buckets, phase), self.cost) for phase in _PHASES}
        self._kept: dict[tuple[Phase, Need], Bucket | None] = {}

    def _find(self, phase: Phase, need: Need) -> Bucket | None:
        key = phase, need
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = self._tables[phase].cheapest(need)
        return self._kept[key]

    def _missed(self, need: RowSizes, blocks: Ints, rows: tuple[int, int]) -> Placement:
        wanted = _need(need, blocks, rows)
        phase = phase_of(need.num_new[rows[0] : rows[1]])
        if self.sizes.on_miss == "error":
            raise BucketMissError(f"no {phase} bucket holds {wanted}; {self._tables[phase].describe()}")
        if self.sizes.on_miss == "eager":
            return Placement(Bucket(phase, wanted.num_rows, wanted.num_tokens), rows, is_miss=True)
        bucket = self._rounded(phase, wanted)
        if self.sizes.on_miss == "compile":
            logger.warning("No planned bucket holds %s of a %s step; compiling %s", wanted, phase, bucket)
        self._take((*self._held, bucket))  # from now on it is one of them
        return Placement(bucket, rows, captured=True, is_miss=True)

    def _rounded(self, phase: Phase, need: Need) -> Bucket:
        """A bucket of powers of two, of the form that the phase's planned ones have."""
        padded = any(bucket.query_len for bucket in self.sizes.buckets if bucket.phase == phase)
        rows, query = _pow2(need.num_rows), _pow2(need.longest) if padded else None
        tokens = rows * query if query else max(_pow2(need.num_tokens), rows)
        bounded = any(bucket.max_blocks for bucket in self.sizes.buckets if bucket.phase == phase)
        return Bucket(phase, rows, tokens, query_len=query, max_blocks=_pow2(need.max_blocks) if bounded else 0)


def _serving(buckets: Sequence[Bucket], phase: Phase) -> list[Bucket]:
    """Those that can run rows of a phase: its own, and those that take any mixture."""
    return [bucket for bucket in buckets if bucket.phase in (phase, "mixed")]


def _num_leading(num_new: Ints, longest: int) -> int:
    """How many rows from the first on have at most `longest` tokens."""
    longer = np.flatnonzero(num_new > longest)
    return int(longer[0]) if longer.size else len(num_new)


def _need(need: RowSizes, blocks: Ints, rows: tuple[int, int]) -> Need:
    first, last = rows
    num_new, blocks = need.num_new[first:last], blocks[first:last]
    return Need(last - first, int(num_new.sum()), int(num_new.max()), int(blocks.max()), int(blocks.sum()))


def _pow2(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()
