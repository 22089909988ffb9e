"""The platform's plan of sizes: every step within the limits is placed, whole and in order, where it fits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jackfield_platforms.bucket import Bucket, BucketPlan, Limits, Placement, RowSizes
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.capabilities import SchedulingRules
from jackfield_platforms.testing.conformance.mismatch import expect
from jackfield_platforms.testing.conformance.subject import Subject

_STEPS = 100
_BLOCK_SIZES = (8, 16, 32, 128)


def random_limits(seed: int) -> Limits:
    """Limits of an engine, small and large."""
    rng = np.random.default_rng([seed, 5])
    rows = int(rng.integers(1, 65))
    tokens = rows + int(rng.integers(0, 1024))
    length, block_size = int(rng.integers(16, 4096)), int(rng.choice(_BLOCK_SIZES))
    return Limits(rows, tokens, length, block_size, num_drafts=int(rng.choice([0, 0, 1, 4])))


def random_step(limits: Limits, rules: SchedulingRules, rng: np.random.Generator) -> RowSizes:
    """A step that the scheduler may make: within the limits and the rules, decode rows first."""
    kind = rng.choice(["decode", "prefill", "mixed"] if rules.mixed else ["decode", "prefill"])
    decode = 0 if kind == "prefill" else int(rng.integers(1, limits.max_rows + 1))
    rows = [(1, int(rng.integers(1, limits.max_model_len + 1))) for _ in range(decode)]
    left, prefills = limits.max_tokens - decode, 0
    for place, (_, length) in enumerate(rows):
        drafts = int(rng.integers(0, min(limits.num_drafts, left, length - 1) + 1))
        rows[place], left = (1 + drafts, length), left - drafts
    most = 0 if kind == "decode" else min(limits.max_rows - decode, rules.max_prefills or limits.max_rows)
    while prefills < most and left > 0 and (prefills == 0 or rng.random() < 0.7):
        new = int(rng.integers(1, min(left, limits.max_model_len) + 1))
        past = 0 if not (rules.chunked or rules.prefix_reuse) else int(rng.integers(0, limits.max_model_len - new + 1))
        rows.append((new, new + past))
        left, prefills = left - new, prefills + 1
    rows[decode:] = sorted(rows[decode:], key=lambda row: row[0] != 1)
    new_tokens, lengths = np.array(rows, np.int32).T
    return RowSizes(np.ascontiguousarray(new_tokens), np.ascontiguousarray(lengths))


def check_every_step_is_placed_whole_and_in_order(subject: Subject, seed: int) -> None:
    """Launches follow one another through the rows, and each bucket holds its own."""
    limits = random_limits(seed)
    for step, placements in _placed(subject, limits, subject.buckets(limits), seed):
        ends = [0, *(one.rows[1] for one in placements)]
        starts = [one.rows[0] for one in placements]
        whole = starts == ends[:-1] and ends[-1] == len(step) and all(a < b for a, b in (p.rows for p in placements))
        expect(whole, f"{_told(step)} was placed as rows {[one.rows for one in placements]} within {limits}")
        for one in placements:
            reason = too_small(one.bucket, step, one.rows, limits.block_size)
            expect(reason is None, f"rows {one.rows} of {_told(step)}: {one.bucket} {reason}; within {limits}")


def check_every_step_is_planned(subject: Subject, seed: int) -> None:
    """Where sizes are planned, no step within the limits misses them, so that nothing is captured while serving.

    Where shapes need not be static, a plan may leave a step to run uncaptured at its own size.
    """
    limits = random_limits(seed)
    plan = subject.buckets(limits)
    planned = set(plan.buckets())
    static = subject.platform.capabilities().static_shapes
    expect(planned or not static, "static_shapes is stated, and the plan has no bucket")
    for chosen in (plan, plan.strict()) if planned else ():
        for step, placements in _placed(subject, limits, chosen, seed):
            missed = [one.bucket for one in placements if one.is_miss or not _is_known(one, planned, static)]
            expect(not missed, f"{_told(step)} needs {missed}, which the plan within {limits} does not have")


def planned(subject: Subject) -> Iterator[tuple[str, Subject]]:
    """The platform, if it plans sizes."""
    if subject.buckets(random_limits(0)).buckets():
        yield subject.name, subject


def saved(subject: Subject) -> Iterator[tuple[str, Subject]]:
    """The platform, if its plan is one that can be saved."""
    if isinstance(subject.buckets(random_limits(0)), StaticBuckets):
        yield subject.name, subject


def check_larger_buckets_come_first(planned: Subject, seed: int) -> None:
    """No bucket comes after one that is nowhere larger: captures share memory best from the largest down."""
    buckets = planned.buckets(random_limits(seed)).buckets()
    expect(len(set(buckets)) == len(buckets), "a bucket is planned twice")
    sizes = np.array([_sizes(bucket) for bucket in buckets]).reshape(-1, 2)
    for place, size in enumerate(sizes):
        smaller = np.flatnonzero((sizes[:place] <= size).all(axis=1) & (sizes[:place] < size).any(axis=1))
        before = buckets[smaller[0]] if smaller.size else None
        expect(before is None, f"{buckets[place]} comes after {before}, which is smaller")


def check_logits_are_planned_for_every_number_of_rows(subject: Subject, seed: int) -> None:
    """`sampling_rows` is at least what it is given, and among the sizes that are captured."""
    limits = random_limits(seed)
    plan = subject.buckets(limits)
    for rows in range(1, limits.max_rows * (1 + limits.num_drafts) + 1):
        size = plan.sampling_rows(rows)
        expect(size >= rows, f"{rows} rows to sample are given room for {size}")
        planned = plan.sampling_sizes()
        expect(not planned or size in planned, f"{rows} rows to sample need {size}, which is not among {planned}")


def check_a_static_plan_survives_json(saved: Subject, seed: int) -> None:
    """What `--buckets` reads back is what was written."""
    plan = saved.buckets(random_limits(seed))
    assert isinstance(plan, StaticBuckets)
    again = type(plan).from_json(plan.to_json())
    same = again.sizes == plan.sizes and again.buckets() == plan.buckets()
    expect(same, "the plan changed on its way through JSON")


def _is_known(one: Placement, planned: set[Bucket], static: bool) -> bool:
    return one.bucket in planned or not (static or one.captured)


def too_small(bucket: Bucket, step: RowSizes, rows: tuple[int, int], block_size: int) -> str | None:
    """Why the bucket does not hold these rows, or None."""
    new, blocks = step.num_new[slice(*rows)], -(-step.kv_len[slice(*rows)] // block_size)
    total = bucket.num_blocks or bucket.num_rows * bucket.max_blocks
    wrong = {
        f"has {bucket.num_rows} rows": len(new) > bucket.num_rows,
        f"has {bucket.num_tokens} tokens": new.sum() > bucket.num_tokens,
        f"has rows of {bucket.query_len}": bucket.query_len is not None and new.max() > bucket.query_len,
        "has fewer tokens than padded rows": bucket.num_rows * (bucket.query_len or 0) > bucket.num_tokens,
        f"has {bucket.max_blocks} blocks a row": 0 < bucket.max_blocks < blocks.max(),
        f"has {total} blocks": 0 < total < blocks.sum(),
        "is for decode rows": bucket.phase == "decode" and new.max() > (bucket.query_len or 1),
    }
    return next((reason for reason, is_wrong in wrong.items() if is_wrong), None)


def _placed(
    subject: Subject, limits: Limits, plan: BucketPlan, seed: int
) -> list[tuple[RowSizes, tuple[Placement, ...]]]:
    rng, rules = np.random.default_rng([seed, 6]), subject.platform.capabilities().scheduling
    steps = [random_step(limits, rules, rng) for _ in range(_STEPS)]
    return [(step, plan.place(step)) for step in steps]


def _sizes(bucket: Bucket) -> tuple[int, int]:
    """What a launch costs: tokens, and blocks where they are bounded."""
    return bucket.num_tokens, bucket.num_blocks or bucket.num_rows * bucket.max_blocks


def _told(step: RowSizes) -> str:
    pairs = list(zip(step.num_new.tolist(), step.kv_len.tolist(), strict=True))
    return f"a step of {len(pairs)} rows (new, length) {pairs[:8]}{' ...' if len(pairs) > 8 else ''}"
