"""Greedy tokens on the strict device, whose programs are all captured before the first request, are the twin's."""

from __future__ import annotations

import pytest
from engine_runs import check, engine_for, run

pytestmark = pytest.mark.parity

SETTINGS = {
    "as it comes": {},
    "chunks": {"max_num_batched_tokens": 32, "max_num_seqs": 8},
    "few blocks": {"kv_cache_memory": 800 << 10},
    "plain loop": {"overlap": "off"},
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_tokens_equal_and_nothing_is_captured_after_the_warm_up(small, setting):
    options = {"max_num_batched_tokens": 256, "max_model_len": 680, "forbid_compile": True, **setting}
    engine = engine_for(small, platform="strict", **options)
    check(small, run(engine, small))
    runner = engine._executor
    assert runner.num_late_captures == 0
    assert runner.usage.misses == 0
    if "kv_cache_memory" in setting:
        assert engine.stats().num_preemptions > 0
    print(f"{small.name}: {runner.num_planned} captures, {runner.usage.waste:.1%} of tokens padding")


def test_every_program_compiles_as_one_graph_and_gives_the_same_tokens(small):
    sizes = {"max_num_batched_tokens": 32, "max_num_seqs": 4, "max_model_len": 680}
    engine = engine_for(small, platform="strict-compiled", forbid_compile=True, **sizes)
    check(small, run(engine, small))
    runner = engine._executor
    graphs, plan = runner._programs._graphs, runner._buckets
    assert graphs.num_graph_breaks == 0
    assert graphs.num_captures == 2 * len(plan.buckets()) + len(plan.sampling_sizes())
    print(f"{small.name}: {graphs.num_captures} programs compiled")
