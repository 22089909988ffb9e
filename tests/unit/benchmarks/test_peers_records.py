"""Results that outlive a run, and who is asked what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peers.catalog import ENGINES, slots
from peers.records import Record, Results

RECORD = Record("mix", "A", 16, 0, 9.5, "tok/s", (1.0,), 5e10, 0.5, 64, 0.1, {"rss": 1}, case="one", figures={"x": 1.0})


def test_a_run_goes_on_where_another_was_cut_off(tmp_path: Path) -> None:
    first = Results(tmp_path / "out", "tiny")
    first.machine, first.settings = {"matrix": {}}, {"A": {"mix": {"threads": 2}}}
    first.add(RECORD)
    second = Results(tmp_path / "out", "tiny")
    assert second.has("mix", "A", 0, "one")
    assert not second.has("mix", "A", 1, "one")
    assert not second.has("mix", "A", 0)
    assert not second.has("mix", "B", 0, "one")
    assert (second.machine, second.settings) == (first.machine, first.settings)
    assert second.records[0].figures == {"x": 1.0}


def test_what_failed_is_tried_again_when_asked_for(tmp_path: Path) -> None:
    results = Results(tmp_path, "tiny")
    results.fail("mix", "A", "no answer")
    results.fail("long", "A", "no answer")
    results.fail("install", "B", "no compiler")
    again = Results(tmp_path, "tiny")
    assert again.has_failed("mix", "A")
    assert again.has_failed("long", "B"), "who is not installed has no figure at all"
    again.retry(["mix"])
    assert not again.has_failed("mix", "A")
    assert again.has_failed("long", "A")
    assert not again.has_failed("mix", "B")


def test_results_of_another_model_are_not_mixed(tmp_path: Path) -> None:
    Results(tmp_path, "tiny").write()
    with pytest.raises(ValueError, match=r"wanted results of large in .*; found tiny"):
        Results(tmp_path, "large")


def test_a_turn_is_on_disk_at_once(tmp_path: Path) -> None:
    Results(tmp_path, "tiny").add(RECORD)
    assert len(json.loads((tmp_path / "results.json").read_text())["records"]) == 1


def test_who_cannot_is_refused_with_the_reason() -> None:
    engines = {engine.name: engine for engine in ENGINES}
    assert "static batches" in str(engines["transformers bf16"].refuses("online"))
    assert engines["transformers bf16"].refuses("long") is None
    assert "only Jackfield" in str(engines["llama.cpp bf16"].refuses("imported"))
    assert engines["Jackfield bf16"].adapter_for("online") == "servers.JackfieldServer"
    assert engines["Jackfield bf16"].adapter_for("mix") == "adapters.Jackfield"


@pytest.mark.parametrize("measure", ["mix", "online", "batch", "prefix", "unshared", "decode", "prefill"])
def test_a_slot_holds_the_longest_request(measure: str) -> None:
    from peers.arrivals import lengths
    from peers.workloads import MEASURES

    asked = (
        lengths() if measure == "online" else [(len(ids), count) for ids, count in MEASURES[measure].make(1).counted]
    )
    _, tokens = slots(measure, ())
    assert max(first + second for first, second in asked) < tokens


def test_each_long_prompt_has_a_slot_of_its_own() -> None:
    assert slots("long", (100, 300)) == (3, 556)
