"""The part of token parity that every change runs: small chunks under the overlapped loop, then a warm prefix cache."""

from __future__ import annotations

from engine_runs import check, engine_for, run
from small_models import SmallModel


def test_small_chunks_overlapped_then_warm(small: SmallModel) -> None:
    engine = engine_for(small, overlap="on", max_num_batched_tokens=16, max_num_seqs=8)
    check(small, run(engine, small))
    check(small, run(engine, small))
    if small.name != "qwen3-hybrid":  # its windowed group has room for the windows of running sequences only
        assert engine.stats().num_prefix_hit_tokens > 1000
