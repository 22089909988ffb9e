"""What is asked of everyone."""

from __future__ import annotations

import pytest
from peers.workloads import MEASURES, Measure, part


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES.keys())
def test_a_seed_gives_the_same_prompts_and_another_one_others(measure: Measure) -> None:
    assert measure.make(7) == measure.make(7)
    (first, *_), (other, *_) = measure.make(7).counted, measure.make(8).counted
    assert first[0] != other[0]
    assert [(len(ids), count) for ids, count in measure.make(7).counted] == [
        (len(ids), count) for ids, count in measure.make(8).counted
    ], "lengths stay"


def test_the_sizes_are_those_that_the_titles_say() -> None:
    sizes = {name: [(len(ids), count) for ids, count in m.make(1).counted] for name, m in MEASURES.items()}
    assert sizes["decode"] == [(128, 128)]
    assert sizes["prefill"] == [(2048, 1)]
    assert sizes["batch"] == [(128, 64)] * 32
    assert sizes["prefix"] == sizes["prefix-warm"] == sizes["unshared"] == [(1088, 32)] * 32
    assert len(sizes["mix"]) == 64
    prompts, outputs = zip(*sizes["mix"], strict=True)
    assert max(*prompts, *outputs) <= 1024
    assert 210 < sum(prompts) / 64 < 230
    assert 180 < sum(outputs) / 64 < 200


def test_only_the_prefix_is_shared() -> None:
    turn = MEASURES["prefix"].make(3)
    assert turn.cached == 1024
    assert len({tuple(ids[:1024]) for ids, _ in turn.counted}) == 1
    assert len({tuple(ids[1024:]) for ids, _ in turn.counted}) == 32


def test_a_warm_prefix_is_asked_alone_before() -> None:
    turn = MEASURES["prefix-warm"].make(3)
    ((before, count),) = turn.groups[0]
    assert (len(turn.groups), count, turn.is_warm) == (2, 1, True)
    assert {tuple(ids[:1024]) for ids, _ in turn.counted} == {tuple(before[:1024])}
    assert before[1024:] not in [ids[1024:] for ids, _ in turn.counted]


def test_decoding_is_timed_without_the_prompt() -> None:
    measure = MEASURES["decode"]
    turn = measure.make(1)
    assert len(turn.groups) == 2
    assert measure.rate(turn, (1.0, 3.0)) == pytest.approx(127 / 2)
    assert measure.rate(turn, (3.0, 3.0)) == float("inf")


def test_a_part_is_the_first_requests() -> None:
    turn = MEASURES["mix"].make(1)
    assert part(turn, 16).counted == turn.counted[:16]
