"""Tables of what was measured."""

from __future__ import annotations

from typing import Any

import pytest
from peers.cells import cells, over_best_peer
from peers.records import Failure, Record
from peers.report import markdown


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
        memory={"rss": 2_000_000_000, "pss": 1_500_000_000, "peak": 2_500_000_000},
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


def test_the_summary_is_ours_beside_the_best_other() -> None:
    text = markdown([record("Jackfield bf16", 33), record("A", 30), record("B", 20)], [])
    assert "| decode, 1 stream, 128 + 128: tok/s | Jackfield bf16 | 33.0 | 30.0 (A) | 1.10 | 0.33 |" in text
    assert "### In short" not in markdown([record("A", 30)], [])


def test_sharing_a_prefix_is_told_over_the_same_unshared() -> None:
    text = markdown([record("A", 30, measure="unshared"), record("A", 90, measure="prefix")], [])
    assert "| over unshared |" in text
    assert "| A | 90.0 | 90.0 to 90.0 | 0.90 |  | 3.00 | 2.0 / 1.5 | 1 |" in text


def test_the_mix_is_told_over_static_batches() -> None:
    text = markdown([record("A", 30, measure="mix"), record("transformers bf16", 6, measure="mix")], [])
    assert "| over static batches |" in text
    assert "| A | 30.0 | 30.0 to 30.0 | 0.30 |  | 5.00 |" in text


def test_a_start_tells_the_peak_of_memory() -> None:
    text = markdown([record("A", 3, measure="start", of_floor=None)], [])
    assert "| A | 3.0 | 3.0 to 3.0 |  | 2.0 / 1.5 | 2.5 | 1 |" in text


def test_arrivals_have_a_row_for_each_rate_and_engine_the_slowest_first() -> None:
    figures = {"first_p50": 10, "first_p99": 20, "between_p50": 3, "between_p99": 4, "tokens_per_event": 1.0}
    cases = ("10.5 requests/s (90% of A)", "2 requests/s (60% of A)")
    records = [record("A", 50, measure="online", case=case, figures=figures) for case in cases]
    rows = [line for line in markdown(records, []).splitlines() if "requests/s" in line]
    assert rows == [f"| {case} | A | 10 / 20 | 3 / 4 | 50.0 | 1.00 | 1 |" for case in cases[::-1]]


def test_a_long_context_tells_what_attention_takes() -> None:
    figures = {
        "token_seconds": 0.05,
        "short_seconds": 0.04,
        "attention_seconds": 0.01,
        "kv_bytes": 2e8,
        "kv_bytes_per_second": 2e10,
        "first_seconds": 9.0,
    }
    text = markdown([record("A", 20, measure="long", case="8192", of_floor=0.4, figures=figures)], [])
    assert "| 8192 | A | 50.0 | 40.0 | 10.0 | 20.0 | 0.40 | 9.0 | 1 |" in text


def test_equal_settings_share_a_row() -> None:
    text = markdown([], [], {"A": {"mix": {"threads": 2}, "batch": {"threads": 2}, "long": {"threads": 1}}})
    assert "| A | mix, batch | threads: 2 |\n| A | long | threads: 1 |" in text
