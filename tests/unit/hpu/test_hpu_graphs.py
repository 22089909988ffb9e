"""HPU graphs over the stand-in: what a program is recorded with, and that replays compute from what buffers hold."""

from __future__ import annotations

import pytest
import torch

from jackfield_hpu.emulated import HpuStrict
from jackfield_hpu.graphs import HpuGraphs
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import GraphRunner, ProgramKey
from jackfield_platforms.testing.conformance import graph_checks
from jackfield_platforms.testing.conformance.subject import Subject

KEY = ProgramKey("forward", Bucket("decode", 2, 2))
CHECKS = [getattr(graph_checks, name) for name in dir(graph_checks) if name.startswith("check_")]


class Lazy(HpuStrict):
    """The CPU, with HPU graphs."""

    def graph_runner(self) -> GraphRunner:
        return HpuGraphs()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kit_s_checks_of_graphs_hold(check, bridge):
    for _, case in graph_checks.capturing(Subject("hpu-strict", Lazy(), ())):
        check(case, 0)
    assert "replay" in bridge.events


def test_a_program_is_recorded_once_and_launched_by_itself(bridge):
    graphs, x = HpuGraphs(), torch.ones(2)
    calls = []

    def program(buffers):
        calls.append(1)
        return {"hidden": buffers["x"] * 2}

    assert graphs.capture(KEY, program, ({"x": x, "scale": 3},)) == 1024
    x.fill_(5)
    out = graphs.run(KEY, program, ({"x": x, "scale": 3},))
    assert out["hidden"].tolist() == [10, 10]
    assert len(calls) == 1
    assert bridge.compiled == graphs.num_captures == 1
    assert bridge.events == ["mark_step", "capture", "mark_step", "mark_step", "replay", "mark_step"]


def test_a_program_is_given_each_tensor_once_and_no_plain_value(bridge, monkeypatch):
    given = []
    wrap = torch.nn.Module.__call__
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda self, *args: given.append(args) or wrap(self, *args))
    x = torch.ones(2)
    HpuGraphs().capture(KEY, lambda a, b: a["x"] + b[0], ({"x": x, "step": 7, "none": None}, (x, 2.5)))
    (arguments,) = given
    assert [id(argument) for argument in arguments] == [id(x)]


def test_what_gives_nothing_is_replayed_too(bridge):
    graphs, x, total = HpuGraphs(), torch.ones(2), torch.zeros(2)

    graphs.capture(KEY, _adds, (x, total))
    assert graphs.run(KEY, _adds, (x, total)) is None
    assert total.tolist() == [2, 2]


def _adds(x, total):
    total.add_(x)


def test_a_program_that_was_not_captured_runs_as_it_is(bridge):
    assert HpuGraphs().run(KEY, lambda x: x + 1, (torch.ones(2),)).tolist() == [2, 2]
    assert bridge.events == ["mark_step", "mark_step"]
