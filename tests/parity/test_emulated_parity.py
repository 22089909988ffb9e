"""Greedy tokens on the emulated torch device, which nothing may read in the middle of a step, are the twin's."""

from __future__ import annotations

import pytest
from engine_runs import check, engine_for, run

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("overlap", ["on", "off"])
def test_tokens_equal_and_all_memory_is_counted(small, overlap):
    sizes = {"max_num_batched_tokens": 256, "max_model_len": 680, "target_step_seconds": 0}
    engine = engine_for(small, platform="emulated", overlap=overlap, kv_cache_memory=small.cache_bytes(45), **sizes)
    check(small, run(engine, small))
    device = engine._executor._platform.torch_device
    assert engine.stats().num_preemptions > 0
    assert device.guarded
    assert device.memory.peak > sum(parameter.nbytes for parameter in small.twin.parameters())
