"""Greedy tokens of small mixtures of experts equal Hugging Face's, chunked, recorded, by ranks, in plain torch."""

from __future__ import annotations

import os
import sys

import pytest
from engine_runs import check, engine_for, run
from small_models import SmallModel, make

from jackfield.layers.experts import expert_layers
from jackfield_cpu.native_experts import NativeExperts
from jackfield_platforms.refusal import Refused

pytestmark = pytest.mark.filterwarnings("ignore:torch was imported before")


@pytest.fixture(scope="module", params=["qwen3-moe", "mixtral"])
def mixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    """A random checkpoint with its prompts and Hugging Face's answers."""
    return make(request.param, tmp_path_factory.mktemp(request.param))


def test_small_chunks_overlapped_then_warm(mixture: SmallModel) -> None:
    engine = engine_for(mixture, overlap="on", max_num_batched_tokens=16, max_num_seqs=8)
    check(mixture, run(engine, mixture))
    check(mixture, run(engine, mixture))
    assert engine.stats().num_prefix_hit_tokens > 1000


def test_whole_prompts_recorded_where_there_are_kernels(mixture: SmallModel) -> None:
    engine = engine_for(mixture)
    runner = engine._executor
    products = [experts.product for experts in expert_layers(runner._programs._model)]
    assert len(products) == (2 if mixture.name == "qwen3-moe" else 3)
    if not isinstance(runner._platform.kernels, str):
        assert all(isinstance(product, NativeExperts) for product in products)
        assert runner._programs._forward is not None, "forward is not recorded"
    check(mixture, run(engine, mixture))


def test_plain_torch_where_the_platform_has_no_product(mixture: SmallModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jackfield_cpu.platform.CpuPlatform.experts", lambda self, spec: "none today")
    check(mixture, run(engine_for(mixture, max_num_batched_tokens=64), mixture))


def test_two_ranks_hold_a_part_of_each_expert(mixture: SmallModel) -> None:
    cpus = os.sched_getaffinity(0) if sys.platform == "linux" else None
    engine = engine_for(mixture, tensor_parallel_size=2, max_num_batched_tokens=32)
    try:
        check(mixture, run(engine, mixture))
    finally:
        engine.close()
        if cpus is not None:  # rank 0 binds this process to its share of the CPUs
            os.sched_setaffinity(0, cpus)


def test_int8_while_loading_leaves_the_router_plain(mixture: SmallModel) -> None:
    engine = engine_for(mixture, quantization="int8")
    for experts in expert_layers(engine._executor._programs._model):
        assert experts.gate.method.name == "unquantized"
        assert {linear.method.name for linear in (*experts.gate_up, *experts.down)} == {"int8"}
    answers = run(engine, mixture)
    assert all(len(answer) == len(mixture.answers[place]) for place, answer in answers.items())


def test_programs_of_fixed_sizes_and_adapters_are_refused_with_the_reason(mixture: SmallModel) -> None:
    with pytest.raises(Refused, match=r"no experts of its own\. Plain torch cannot: .* programs there have fixed ones"):
        engine_for(mixture, platform="strict")
    with pytest.raises(Refused, match="LoRA adapters are not served on mixtures of experts"):
        engine_for(mixture, enable_lora=True)
