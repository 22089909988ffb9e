"""A plan of static sizes holds every step within its limits, takes the cheapest launches, and says when it cannot."""

from __future__ import annotations

import logging

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jackfield_platforms.bucket import Bucket, BucketPlan, Limits, RowSizes
from jackfield_platforms.buckets.fitted import fit_buckets
from jackfield_platforms.buckets.ladder import CudaSizes, Exponential, Linear, PaddingAware, PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import BucketMissError, StaticBuckets, StaticSizes
from jackfield_platforms.buckets.trace import Trace, TraceWriter
from jackfield_platforms.buckets.usage import Usage, replay

LIMITS = Limits(max_rows=16, max_tokens=128, max_model_len=512, block_size=16)
RAGGED = (PhaseRule(phase="mixed", tokens=CudaSizes(), rows=PowersOfTwo(), blocks=Exponential(4, 1, 3)),)
SPLIT = (
    PhaseRule(phase="decode", rows=PowersOfTwo(), blocks=Linear(4, 8)),
    PhaseRule(phase="prefill", rows=PowersOfTwo(), query=PaddingAware(16, 16), blocks=PowersOfTwo(8)),
)
UNBOUNDED = (PhaseRule(phase="mixed", tokens=CudaSizes()),)
RULES = {"ragged": RAGGED, "split": SPLIT, "unbounded": UNBOUNDED}


def sizes(*rows: tuple[int, int]) -> RowSizes:
    new, length = np.array(rows, np.int32).reshape(-1, 2).T
    return RowSizes(np.ascontiguousarray(new), np.ascontiguousarray(length))


@st.composite
def steps(draw: st.DrawFn) -> RowSizes:
    """A step within `LIMITS`, decode rows first."""
    decode = draw(st.lists(st.integers(1, LIMITS.max_model_len), max_size=LIMITS.max_rows))
    rows = [(1, length) for length in decode]
    left = LIMITS.max_tokens - len(rows)
    while len(rows) < LIMITS.max_rows and left > 1 and (not rows or draw(st.booleans())):
        new = draw(st.integers(2, left))
        rows.append((new, draw(st.integers(new, LIMITS.max_model_len))))
        left -= new
    return sizes(*rows)


def fits(bucket: Bucket, need: RowSizes, rows: tuple[int, int], block_size: int = 16) -> bool:
    new, length = need.num_new[slice(*rows)], need.kv_len[slice(*rows)]
    tokens = new.max() <= bucket.query_len if bucket.query_len else new.sum() <= bucket.num_tokens
    blocks = not bucket.max_blocks or -(-length.max() // block_size) <= bucket.max_blocks
    return bool(len(new) <= bucket.num_rows and tokens and blocks)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@settings(max_examples=60, deadline=None)
@given(need=steps())
def test_every_step_within_the_limits_is_held_without_a_miss(rules, need):
    plan = StaticBuckets.of_rules(rules, LIMITS, on_miss="error")
    placements = plan.place(need)
    assert [row for one in placements for row in range(*one.rows)] == list(range(len(need)))
    for one in placements:
        assert one.bucket in plan.buckets()
        assert one.captured
        assert not one.is_miss
        assert fits(one.bucket, need, one.rows)
        new = need.num_new[slice(*one.rows)]
        assert one.bucket.phase == "mixed" or (one.bucket.phase == "decode") == bool((new == 1).all())


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@settings(max_examples=60, deadline=None)
@given(need=steps())
def test_no_single_bucket_would_have_been_cheaper(rules, need):
    plan = StaticBuckets.of_rules(rules, LIMITS, launch_cost=20)

    def cost(bucket):
        return 20 + bucket.num_tokens + bucket.num_rows * bucket.max_blocks

    taken = sum(cost(one.bucket) for one in plan.place(need))
    whole = [b for b in plan.buckets() if b.phase == "mixed" and fits(b, need, (0, len(need)))]
    assert not whole or taken <= min(map(cost, whole))


def test_a_mixed_step_is_two_launches_where_that_is_cheaper():
    rules = (*SPLIT, PhaseRule(phase="mixed", rows=PowersOfTwo(), query=PaddingAware(16, 16)))
    plan = StaticBuckets.of_rules(rules, LIMITS, launch_cost=8)
    parts = [one.rows for one in plan.place(sizes(*[(1, 30)] * 8, (60, 60)))]
    assert parts == [(0, 8), (8, 9)]  # padded to 64 each, nine rows would be 1,024 tokens


def test_rows_of_very_different_lengths_are_launched_apart():
    plan = StaticBuckets.of_rules(SPLIT, LIMITS, launch_cost=8)
    lengths = [one.bucket.query_len for one in plan.place(sizes((96, 96), (4, 4), (4, 4), (4, 4)))]
    assert lengths[0] >= 96
    assert max(lengths[1:]) == 16


@pytest.mark.parametrize(("num_drafts", "lengths"), [(0, {1}), (3, {1, 4})])
def test_decode_rows_are_planned_with_all_their_drafts_and_with_none(num_drafts, lengths):
    rule = PhaseRule(phase="decode", rows=PowersOfTwo())
    buckets = list(rule.buckets(msgspec.structs.replace(LIMITS, num_drafts=num_drafts)))
    assert {bucket.query_len for bucket in buckets} == lengths
    assert all(bucket.num_tokens == bucket.num_rows * bucket.query_len for bucket in buckets)


def test_the_smallest_number_of_padded_rows_takes_any_length():
    rule = PhaseRule(phase="prefill", rows=PowersOfTwo(low=4), query=PowersOfTwo(low=64))
    sizes = {(bucket.num_rows, bucket.query_len) for bucket in rule.buckets(LIMITS)}
    assert {length for rows, length in sizes if rows == 4} == {64, 128}, "also where a step has fewer tokens"
    assert all(rows * length <= LIMITS.max_tokens for rows, length in sizes if rows > 4)


def test_buckets_come_largest_first():
    costs = [b.num_tokens + b.num_rows * b.max_blocks for b in StaticBuckets.of_rules(SPLIT, LIMITS).buckets()]
    assert costs == sorted(costs, reverse=True)
    assert len(costs) > 20


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_plan_survives_json(rules):
    plan = StaticBuckets.of_rules(rules, LIMITS, on_miss="round_up")
    assert StaticBuckets.from_json(plan.to_json()).sizes == plan.sizes


def test_json_that_is_no_plan_is_refused_with_the_path_to_the_fault():
    text = StaticBuckets.of_rules(UNBOUNDED, LIMITS).to_json().replace(b'"mixed"', b'"both"')
    with pytest.raises(msgspec.ValidationError, match=r"buckets\[0?.*phase"):
        StaticBuckets.from_json(text)


TOO_LONG = sizes((300, 300))


@pytest.mark.parametrize(("policy", "captured"), [("eager", False), ("round_up", True), ("compile", True)])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_what_fits_nowhere_gets_a_bucket_of_its_own(rules, policy, captured, caplog):
    plan = StaticBuckets.of_rules(rules, LIMITS, on_miss=policy)
    with caplog.at_level(logging.WARNING):
        (one,) = plan.place(TOO_LONG)
    assert one.is_miss
    assert one.captured is captured
    assert fits(one.bucket, TOO_LONG, one.rows)
    assert bool(caplog.records) == (policy == "compile")
    assert one.bucket.num_tokens == (512 if captured else 300)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_what_was_made_for_a_miss_is_one_of_the_plan_s_from_then_on(rules, caplog):
    plan = StaticBuckets.of_rules(rules, LIMITS)
    (first,), (second,) = plan.place(TOO_LONG), plan.place(TOO_LONG)
    assert (first.bucket, first.rows) == (second.bucket, second.rows)
    assert (first.is_miss, second.is_miss) == (True, False)
    assert len(caplog.records) == 1, "one compile, one warning"


def test_a_strict_plan_refuses_what_fits_nowhere_and_says_what_would():
    plan = StaticBuckets.of_rules(SPLIT, LIMITS).strict()
    with pytest.raises(BucketMissError, match=r"num_tokens=300.*longest 128"):
        plan.place(TOO_LONG)


def test_a_rule_of_two_minds_is_refused():
    with pytest.raises(ValueError, match="query for padded"):
        PhaseRule(phase="mixed", tokens=CudaSizes(), query=CudaSizes())
    with pytest.raises(ValueError, match="decode"):
        PhaseRule(phase="decode", rows=CudaSizes(), tokens=CudaSizes())
    with pytest.raises(ValueError, match="must be given"):
        PhaseRule(phase="prefill", rows=CudaSizes())


def test_usage_counts_launches_padding_and_misses():
    plan = StaticBuckets.of_rules(UNBOUNDED, LIMITS, on_miss="eager")
    usage = Usage()
    for step in (sizes((1, 1), (1, 5), (1, 9)), sizes((5, 5)), TOO_LONG):
        usage.count(step, plan.place(step))
    four, eight = Bucket("mixed", 4, 4), Bucket("mixed", 8, 8)
    assert usage.by_bucket[four].real_tokens == 3
    assert usage.by_bucket[four].padded_tokens == 4
    assert usage.by_bucket[eight].launches == 1
    assert usage.by_bucket[None].misses == usage.misses == 1
    assert usage.launches == 3
    assert usage.waste == pytest.approx(1 - 308 / 312)


def test_a_trace_holds_what_was_placed(tmp_path):
    path = tmp_path / "steps.jsonl"
    plan = TraceWriter(BucketPlan(), path)
    plan.place(sizes((1, 7), (30, 30)))
    plan.place(sizes((1, 8)))
    trace = Trace.load(path)
    assert [step.kv_len.tolist() for step in trace.steps] == [[7, 30], [8]]
    assert trace.launches("mixed", 16).tolist() == [[31, 2]]
    assert trace.launches("decode", 16).tolist() == [[1, 1]]


@pytest.mark.parametrize("text", ["", "[[1]]\n", "[[1, 2]]\n[[5, 4]]\n", "[]\n", "x\n"])
def test_a_trace_that_is_none_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "steps.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"steps\.jsonl"):
        Trace.load(path)


def test_fitted_buckets_hold_the_trace_within_their_budget_and_waste_less():
    rng = np.random.default_rng(1)
    decode = [sizes(*[(1, int(n)) for n in rng.integers(1, 200, rng.choice([3, 11]))]) for _ in range(200)]
    mixed = [sizes((1, 20), (int(n), int(n))) for n in rng.choice([37, 90], 100)]
    trace = Trace((*decode, *mixed))
    fitted = StaticBuckets(StaticSizes(buckets=fit_buckets(trace, LIMITS, 12), block_size=16, on_miss="error"))
    assert len(fitted.buckets()) <= 12
    rules = (
        PhaseRule(phase="decode", rows=PowersOfTwo(), blocks=PowersOfTwo()),
        PhaseRule(phase="mixed", tokens=PowersOfTwo(), blocks=PowersOfTwo()),
    )
    powers = StaticBuckets.of_rules(rules, LIMITS)
    assert len(powers.buckets()) > 4 * len(fitted.buckets())
    assert spent(fitted, trace) < spent(powers, trace)
    assert replay(fitted, trace.steps).waste < replay(powers, trace.steps).waste


def spent(plan: StaticBuckets, trace: Trace) -> float:
    used = replay(plan, trace.steps).by_bucket.items()
    return sum(use.launches * plan.cost(bucket) for bucket, use in used if bucket is not None)
