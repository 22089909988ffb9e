"""A full step is run before the cache is sized, where the device counts its memory: what it takes is left free."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jackfield.config.json_fields import ConfigError
from jackfield.config.options import EngineOptions
from jackfield.engine import assembly, dry_run
from jackfield.engine.build import build_engine
from jackfield.engine.messages import EngineRequest
from jackfield.runner.slot_tables import SlotTables
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.testing import emulated
from jackfield_platforms.testing.strict import StrictPlatform

SEQUENCES, TOKENS = 12, 96


def engine_of(**changes):
    given = {"platform": "emulated", "dtype": "float32", "max_num_seqs": SEQUENCES, "max_num_batched_tokens": TOKENS}
    return build_engine(EngineOptions(**{**given, "max_model_len": 1024, **changes}), progress=False)


def no_estimate(config):
    raise AssertionError("estimated")


def test_full_steps_fit_beside_a_cache_that_took_the_rest(monkeypatch):
    monkeypatch.setattr(dry_run, "activation_bytes", no_estimate)
    monkeypatch.setattr(emulated, "BYTES", 32 << 20)
    engine = engine_of(memory_utilization=0.98)  # the rest is for what steps in flight hold of one another
    memory = engine._executor._platform.torch_device.memory
    assert memory.limit == 32 << 20
    assert memory.limit - memory.allocated < 8 << 20, "the cache took what was left"
    sampling = SamplingParams(
        temperature=0.8, top_p=0.9, presence_penalty=0.5, logprobs=1, max_tokens=4, seed=1, ignore_eos=True
    )
    rng = np.random.default_rng(0)
    for place in range(2 * SEQUENCES):
        length = 40 if place % 3 else 8
        engine.add(EngineRequest(str(place), rng.integers(3, 500, length).tolist(), sampling))
    memory.peak = memory.allocated
    counts = dict.fromkeys(map(str, range(2 * SEQUENCES)), 0)
    while engine.has_work:
        for output in engine.step().each():
            counts[output.id] += len(output.token_ids)
            assert output.finish_reason in (None, "length")
    assert set(counts.values()) == {4}
    assert memory.allocated < memory.peak <= memory.limit


def test_garbage_that_goes_while_steps_run_hides_nothing_of_what_they_take(monkeypatch):
    taken, measure, launch = [], dry_run.full_step_bytes, dry_run.ModelRunner.launch

    def measured(*given):
        if taken:
            garbage = [torch.zeros(1 << 20, device="emulated")]
            garbage.append(garbage)
            del garbage
        taken.append(measure(*given))
        return taken[-1]

    def launch_and_collect(runner, step):
        gc.collect()
        return launch(runner, step)

    monkeypatch.setattr(assembly, "full_step_bytes", measured)
    monkeypatch.setattr(dry_run.ModelRunner, "launch", launch_and_collect)
    engine_of()
    engine_of()
    assert taken[0] == taken[1] > 0


def test_a_step_that_has_no_room_is_an_error_that_says_what_to_lower(monkeypatch):
    monkeypatch.setattr(emulated, "BYTES", 24 << 20)
    with pytest.raises(
        ConfigError, match=r"A step of 2048 tokens and 64 sequences does not fit beside the weights .*Lower"
    ):
        engine_of(max_num_seqs=64, max_num_batched_tokens=2048, max_model_len=2048)


def test_a_cache_of_a_given_size_asks_for_no_step(monkeypatch):
    monkeypatch.setattr(dry_run, "ModelRunner", None)
    engine_of(kv_cache_memory=8 << 20)


def test_where_nobody_counts_the_estimate_stands(monkeypatch):
    monkeypatch.setattr(dry_run, "ModelRunner", None)
    engine_of(platform="cpu", kv_cache_memory=None, memory_utilization=0.1)


def test_where_shapes_are_static_the_sampler_s_tables_come_on_top(monkeypatch):
    monkeypatch.setattr(dry_run, "activation_bytes", lambda config: 1000)
    config = SimpleNamespace(max_num_seqs=3, model=SimpleNamespace(vocab_size=10))
    tables = SlotTables.empty(3, 10, torch.device("cpu"))
    taken = dry_run.full_step_bytes(config, StrictPlatform(), None, None, ())
    assert taken == 1000 + sum(table.nbytes for table in tables)
