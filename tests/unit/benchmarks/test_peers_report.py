"""Tables of what was measured."""

from __future__ import annotations

from typing import Any

import pytest
from peers.compare import Failure, Record
from peers.report import cells, markdown, over_best_peer


def record(engine: str, rate: float, **changes: Any) -> Record:
    usual = Record(
        measure="decode",
        engine=engine,
        bits=16,
        repetition=0,
        rate=rate,
        unit="tok/s",
        seconds=(1.0, 2.0),
        bandwidth=5e10,
        of_floor=rate / 100,
        requests=1,
        load=0.0,
        memory={"rss": 2_000_000_000, "pss": 1_500_000_000},
    )
    return usual._replace(**changes)


def test_a_cell_is_the_median_of_its_repetitions() -> None:
    (cell,) = cells([record("Jackfield bf16", rate) for rate in (30, 10, 29)])
    assert (cell.rate, cell.low, cell.high, cell.of_floor, cell.repetitions) == (29, 10, 30, 0.29, 3)


def test_ours_is_compared_with_the_best_of_as_many_bits() -> None:
    everything = cells(
        [
            record("Jackfield bf16", 33),
            record("A", 30),
            record("B", 20),
            record("C int8", 50, bits=8),
            record("D", 90, measure="prefill"),
        ]
    )
    assert over_best_peer(everything[0], everything) == pytest.approx(1.1)
    assert over_best_peer(everything[1], everything) is None


def test_a_shorter_start_is_the_better_one() -> None:
    everything = cells([record("Jackfield bf16", 2.0, measure="start"), record("A", 3.0, measure="start")])
    assert over_best_peer(everything[0], everything) == 1.5


def test_the_table_shows_every_engine_and_who_is_missing() -> None:
    text = markdown(
        [record("Jackfield bf16", 33), record("A", 30), record("A", 30, measure="start", of_floor=None)],
        [Failure("prefill", "B", "no answer within 5 s")],
    )
    assert "### decode, 1 stream, 128 + 128: tok/s" in text
    assert "| Jackfield bf16 | 33.0 | 33.0 to 33.0 | 0.33 | 1.10 | 2.0 / 1.5 | 1 |" in text
    assert "| A | 30.0 | 30.0 to 30.0 | 0.30 |  | 2.0 / 1.5 | 1 |" in text
    assert "### start to the first token" in text
    assert "- prefill, B: no answer within 5 s" in text


def test_an_engine_that_answered_a_part_says_so() -> None:
    text = markdown([record("A", 30, requests=64), record("B", 6, requests=16)], [])
    assert "| 1 of 16 requests |" in text
