"""The strict device: what it refuses is what a compiled device would do wrong in silence."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from jackfield_platforms.attention import LayerKV
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import ProgramKey
from jackfield_platforms.testing.strict import StrictPlatform
from jackfield_platforms.testing.strict_graphs import StrictError, StrictGraphRunner

KEY = ProgramKey("forward", Bucket("decode", 4, 4, max_blocks=8))


@dataclass
class Inputs:
    x: Tensor
    scale: float
    layers: dict[int, LayerKV]


def double(inputs: Inputs) -> dict[str, Tensor]:
    return {"hidden": inputs.x * inputs.scale}


@pytest.fixture
def inputs() -> Inputs:
    return Inputs(torch.ones(4), 2.0, {0: LayerKV((torch.zeros(3), torch.zeros(3)))})


@pytest.fixture
def graphs(inputs) -> StrictGraphRunner:
    runner = StrictGraphRunner()
    assert runner.capture(KEY, double, (inputs,)) == 16
    return runner


def test_a_replay_sees_what_was_written_in_place_and_gives_the_same_outputs(graphs, inputs):
    first = graphs.run(KEY, double, (inputs,))
    inputs.x.fill_(3)
    second = graphs.run(KEY, double, (inputs,))
    assert second is first
    assert second["hidden"].tolist() == [6] * 4
    assert graphs.replays == {KEY: 2}
    assert graphs.num_captures == 1


def test_a_size_that_was_not_captured_is_refused(graphs, inputs):
    other = ProgramKey("forward", Bucket("decode", 8, 8, max_blocks=8))
    with pytest.raises(StrictError, match=r"num_rows 8.* was not captured; 1 sizes"):
        graphs.run(other, double, (inputs,))


def test_a_tensor_that_moved_is_refused_by_name(graphs, inputs):
    inputs.x = inputs.x.clone()
    with pytest.raises(StrictError, match=r"buffer 0\.x"):
        graphs.run(KEY, double, (inputs,))


def test_a_tensor_assigned_anew_is_told_from_one_written_in_place(graphs, inputs):
    inputs.x.copy_(torch.full((4,), 2.0))
    graphs.run(KEY, double, (inputs,))
    inputs.x = torch.full((4,), 2.0)
    with pytest.raises(StrictError, match=r"buffer 0\.x, a tensor that has been replaced.*`x = \.\.\.`.*`x\.copy_"):
        graphs.run(KEY, double, (inputs,))


class OrdinaryPlan:
    """As a vendor may write it: no dataclass, and it leads back to itself."""

    def __init__(self) -> None:
        self.lengths, self.this = torch.zeros(4), self


class SlottedPlan:
    __slots__ = ("lengths", "never_set")

    def __init__(self) -> None:
        self.lengths = torch.zeros(4)


@pytest.mark.parametrize("kind", [OrdinaryPlan, SlottedPlan])
def test_a_plan_of_any_class_is_looked_into(inputs, kind):
    graphs, plan = StrictGraphRunner(), kind()
    graphs.capture(KEY, lambda given, plan: double(given), (inputs, [plan]))
    plan.lengths.add_(1)
    graphs.run(KEY, lambda given, plan: double(given), (inputs, [plan]))
    plan.lengths = torch.ones(4)
    with pytest.raises(StrictError, match=r"buffer 1\[0\]\.lengths, .*`lengths\.copy_"):
        graphs.run(KEY, lambda given, plan: double(given), (inputs, [plan]))


def test_a_shape_that_changed_is_refused(graphs, inputs):
    inputs.x = inputs.x[:3]
    with pytest.raises(StrictError, match=r"buffer 0\.x.*shape=\(3,\)"):
        graphs.run(KEY, double, (inputs,))


def test_a_plain_value_that_changed_is_refused(graphs, inputs):
    inputs.scale = 3.0
    with pytest.raises(StrictError, match=r"buffer 0\.scale = 2\.0.*3\.0"):
        graphs.run(KEY, double, (inputs,))


def test_another_cache_is_refused(graphs, inputs):
    inputs.layers[1] = LayerKV(torch.zeros(1))
    with pytest.raises(StrictError, match=r"layers\[1\]"):
        graphs.run(KEY, double, (inputs,))


def test_a_result_of_another_shape_is_refused(graphs, inputs):
    with pytest.raises(StrictError, match=r"output\['hidden'\] of \(2,\)"):
        graphs.run(KEY, lambda given: {"hidden": given.x[:2]}, (inputs,))


def test_a_second_capture_is_refused(graphs, inputs):
    with pytest.raises(StrictError, match="captured already"):
        graphs.capture(KEY, double, (inputs,))


def test_caches_are_poisoned_before_the_first_capture_and_never_again(graphs, inputs):
    cache = inputs.layers[0].cache
    assert all(part.isnan().all() for part in cache)
    for part in cache:
        part.zero_()
    graphs.capture(ProgramKey("other", KEY.bucket), double, (inputs,))
    assert all((part == 0).all() for part in cache)


def test_with_compiles_a_program_that_breaks_the_graph_is_refused(inputs):
    def branches(given: Inputs) -> dict[str, Tensor]:
        return {"hidden": given.x if given.x.sum() > 0 else -given.x}

    runner = StrictGraphRunner(compiles=True)
    runner.capture(ProgramKey("straight", KEY.bucket), double, (inputs,))
    with pytest.raises(StrictError, match="does not compile as one graph"):
        runner.capture(ProgramKey("branches", KEY.bucket), branches, (inputs,))
    assert runner.num_graph_breaks == 1


def test_a_fetched_tensor_is_poison_until_its_wait_is_over():
    platform = StrictPlatform()
    computed = torch.tensor([1.0, 2.0])
    wait = platform.fetch(computed)
    computed.fill_(9)  # the device goes on
    assert wait.host.isnan().all()
    assert wait().tolist() == [1.0, 2.0]
