"""Greedy tokens on the strict device, whose programs are all captured before the first request, are the twin's."""

from __future__ import annotations

import pytest
from engine_runs import check, engine_for, run

from jackfield.runner.planned_sampler import VARIANTS
from jackfield_platforms.bucket import Limits
from jackfield_platforms.buckets.ladder import PowersOfTwo
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import StaticBuckets

pytestmark = pytest.mark.parity

SETTINGS = {
    "as it comes": {},
    "chunks": {"max_num_batched_tokens": 32, "max_num_seqs": 8},
    "few blocks": {"num_blocks": 45},
    "plain loop": {"overlap": "off"},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_tokens_equal_and_nothing_is_captured_after_the_warm_up(small, setting):
    options = {"max_num_batched_tokens": 256, "max_model_len": 680, "forbid_compile": True, **setting}
    few = options.pop("num_blocks", None)
    if few is not None:
        options["kv_cache_memory"] = small.cache_bytes(few)
    engine = engine_for(small, platform="strict", **options)
    check(small, run(engine, small))
    runner = engine._executor
    assert f"buckets    {runner.num_planned} sizes captured" in engine.startup_text
    assert runner.num_late_captures == 0
    assert runner.usage.misses == 0
    if few is not None:
        assert engine.stats().num_preemptions > 0
    print(f"{small.name}: {runner.num_planned} captures, {runner.usage.waste:.1%} of tokens padding")


def test_launches_of_two_rows_serve_eight_sequences(small, tmp_path):
    limits = Limits(max_rows=2, max_tokens=64, max_model_len=680, block_size=16)
    blocks = PowersOfTwo(low=8)
    rules = (
        PhaseRule(phase="decode", rows=PowersOfTwo(), blocks=blocks),
        PhaseRule(phase="mixed", tokens=PowersOfTwo(low=16), blocks=blocks),
    )
    path = tmp_path / "plan.json"
    path.write_bytes(StaticBuckets.of_rules(rules, limits).to_json())
    sizes = {"max_num_batched_tokens": 64, "max_num_seqs": 8, "max_model_len": 680, "target_step_seconds": 0}
    engine = engine_for(small, platform="strict", forbid_compile=True, buckets=str(path), **sizes)
    check(small, run(engine, small))
    assert engine.stats().num_late_captures == 0
    assert max(count.real_tokens / count.launches for count in engine.stats().buckets) > 2


def test_every_program_compiles_as_one_graph_and_gives_the_same_tokens(small):
    sizes = {"max_num_batched_tokens": 32, "max_num_seqs": 4, "max_model_len": 680}
    engine = engine_for(small, platform="strict-compiled", forbid_compile=True, **sizes)
    check(small, run(engine, small))
    runner = engine._executor
    graphs, plan = runner._programs._graphs, runner._buckets
    assert graphs.num_graph_breaks == 0
    a_bucket = ("embed", "forward", "take", "tokens")
    a_size = ("logits", *VARIANTS, "logprobs", "remember")
    assert graphs.num_captures == len(a_bucket) * len(plan.buckets()) + len(a_size) * runner._sampling.num_planned + 1
    print(f"{small.name}: {graphs.num_captures} programs compiled")
