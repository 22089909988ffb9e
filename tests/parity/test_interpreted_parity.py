"""Greedy tokens through the kernels of GPUs, which Triton interprets on the host, are the twin's: and so the CPU's."""

from __future__ import annotations

import pytest
from engine_runs import check, engine_for, run

TritonAttention = pytest.importorskip("jackfield_attention.triton.backend").TritonAttention  # no wheel for every system
pytestmark = pytest.mark.parity

PROMPTS = (0, 2, 3, 4)  # up to 130 tokens: an interpreted step takes a second


@pytest.mark.parametrize("platform", ["cuda-interpreted", "rocm-interpreted"])
def test_tokens_equal_in_chunks_and_batches(small, platform, monkeypatch):
    if platform == "rocm-interpreted" and small.name != "qwen3":
        pytest.skip("the same kernels in other tiles: one model is enough")
    launch, launched = TritonAttention.launch, []

    def counted(backend, *arguments):
        launched.append(backend)
        return launch(backend, *arguments)

    monkeypatch.setattr(TritonAttention, "launch", counted)
    engine = engine_for(small, platform=platform, max_num_batched_tokens=64, max_model_len=256, target_step_seconds=0)
    check(small, run(engine, small, PROMPTS))
    assert len(launched) >= 3 * 64  # layers and tokens
