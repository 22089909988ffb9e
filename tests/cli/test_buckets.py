"""`jackfield buckets`: ladders compared over a recorded run, a plan written and read back, a plot."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from jackfield_platforms.buckets.static_plan import StaticBuckets

SIZES = ("--max-model-len", "512", "--max-num-seqs", "16", "--max-num-batched-tokens", "128")


@pytest.fixture
def trace(tmp_path):
    """A run whose steps are three or eleven decode rows, or a prompt of 37 or 90 tokens."""
    rng = np.random.default_rng(2)
    steps = [[[1, int(n)] for n in rng.integers(1, 500, rng.choice([3, 11]))] for _ in range(150)]
    steps += [[[int(n), int(n)]] for n in rng.choice([37, 90], 50)]
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(json.dumps(step) + "\n" for step in steps))
    return path


def test_ladders_are_compared_the_cheapest_first(run, trace):
    uses = json.loads(run("buckets", "--trace", str(trace), *SIZES, "--graphs", "16", "--json").output)
    assert [use["cost"] for use in uses] == sorted(use["cost"] for use in uses)
    by_name = {use["ladder"]: use for use in uses}
    assert set(by_name) == {"exponential", "linear", "pow2", "pad", "cuda", "fitted"}
    assert by_name["fitted"]["graphs"] <= 16
    assert by_name["fitted"]["cost"] < by_name["pow2"]["cost"]
    assert all(use["misses"] == 0 and use["launches"] >= 200 for use in uses)


def test_the_table_has_a_line_a_ladder(run, trace):
    lines = run("buckets", "--trace", str(trace), *SIZES).output.splitlines()
    assert len(lines) == 7
    assert all("%" in line for line in lines[1:])


def test_a_plan_is_written_that_can_be_served_with(run, trace, tmp_path):
    path = tmp_path / "plan.json"
    result = run("buckets", "--trace", str(trace), *SIZES, "--graphs", "9", "--write", "fitted", str(path))
    assert result.exit_code == 0
    assert 1 < len(StaticBuckets.from_json(path.read_bytes()).buckets()) <= 9


def test_the_plot_shows_every_ladder(run, trace, tmp_path):
    path = tmp_path / "ladders.svg"
    assert run("buckets", "--trace", str(trace), *SIZES, "--plot", str(path)).exit_code == 0
    drawn = ElementTree.fromstring(path.read_text())
    texts = {element.text for element in drawn.iter() if element.text}
    assert {"exponential", "linear", "pow2", "pad", "cuda", "fitted", "graphs"} <= texts
    circles = [element for element in drawn.iter() if element.tag.endswith("circle")]
    assert all(0 < float(one.get("cx")) < 640 and 0 < float(one.get("cy")) < 400 for one in circles)


def test_a_file_that_is_no_trace_is_an_error_with_its_line(run, tmp_path):
    path = tmp_path / "steps.jsonl"
    path.write_text("[[1, 1]]\n[[2]]\n")
    result = run("buckets", "--trace", str(path), *SIZES)
    assert result.exit_code == 1
    assert "steps.jsonl:2" in result.output


def test_a_ladder_that_there_is_not_is_named(run, trace, tmp_path):
    result = run("buckets", "--trace", str(trace), *SIZES, "--write", "golden", str(tmp_path / "x"))
    assert result.exit_code == 1
    assert "golden" in result.output
