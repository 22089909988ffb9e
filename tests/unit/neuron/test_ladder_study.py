"""`benchmarks/bucket_ladders.py` in small: what it counts, counted again by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
REQUESTS, GRAPHS = 40, 12


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    words = [sys.executable, str(BENCHMARKS / "bucket_ladders.py"), "--requests", str(REQUESTS)]
    words += ["--graphs", str(GRAPHS), "--docs", str(folder), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=True)
    return folder, json.loads(done.stdout)


def test_every_ladder_is_compared_for_every_style_and_misses_nothing(study):
    _, found = study
    assert list(found) == ["hpu", "tpu", "neuron"]
    for rows in found.values():
        assert {row["ladder"] for row in rows} == {"exponential", "linear", "pad", "pow2", "fitted"}
        assert [row["misses"] for row in rows] == [0] * 5
        assert all(row["used"] <= row["graphs"] < row["warm_up"] for row in rows)
        (fitted,) = (row for row in rows if row["ladder"] == "fitted")
        assert fitted["graphs"] <= GRAPHS


def test_padding_is_what_a_count_by_hand_gives(study, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from bucket_ladders import SEED
    from ladder_parts.run import run
    from ladder_parts.styles import STYLES

    trace = run(STYLES[2], REQUESTS, SEED)
    real = padded = 0
    for step in trace.steps:
        real += int(step.num_new.sum())
        lengths = [128 * 2**power for power in range(5)]
        is_decode = bool((step.num_new == 1).all())
        padded += 64 if is_decode else next(size for size in lengths if size >= int(step.num_new.max()))
    (pow2,) = (row for row in study[1]["neuron"] if row["ladder"] == "pow2")
    assert pow2["launches"] == len(trace.steps)
    assert pow2["token_waste"] == pytest.approx(1 - real / padded)


def test_the_page_and_the_plot_are_written(study):
    folder, found = study
    page = (folder / "bucket_ladders.md").read_text()
    for name, rows in found.items():
        assert f"\n## {name}: " in page
        for row in rows:
            assert f"| {row['ladder']} | {row['graphs']} | {row['warm_up']} |" in page
    plot = ElementTree.parse(folder / "bucket_ladders.svg").getroot()
    marks = [one for one in plot.iter() if one.tag.endswith("circle")]
    assert len(marks) == 15
