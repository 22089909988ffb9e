from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import storm
import storm_clients


@pytest.mark.parametrize("shape", storm_clients.SHAPES)
def test_a_storm_leaves_no_trace_and_changes_no_answer(shape: str) -> None:
    # all at once, and each for at least 48 steps: however fast the machine is, they meet
    crowded = replace(storm_clients.SHAPES[shape], answer_tokens=(48, 100))
    clients = storm_clients.make_clients(crowded, 30, seed=25, latest_arrival=0)
    report = asyncio.run(storm.run_storm(crowded, clients))
    assert report.errors == []
    assert report.different == []
    assert report.exit_status == 0
    assert report.free_after == report.free_before == report.blocks
    # it was a storm
    assert report.refused_as_asked == 1
    assert report.left_before_first_token + report.left_midway >= 3
    assert min(report.greedy_compared, report.sampled_compared) >= 5
    assert report.blocks_wanted > report.blocks
    assert report.peak_waiting > 0
    assert report.preemptions > 0 or shape != "preempting"
