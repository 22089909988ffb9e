"""The recording runner: a replay is operations over addresses, as a stream capture's is, and Python plays no part."""

from __future__ import annotations

import pytest
import torch

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import ProgramKey
from jackfield_platforms.testing.recording_graphs import RecordingError, RecordingGraphRunner

KEY = ProgramKey("forward", Bucket("decode", 4, 4))


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def graphs() -> RecordingGraphRunner:
    return RecordingGraphRunner()


def test_a_replay_reads_its_buffers_anew_and_writes_where_it_wrote(graphs):
    x, weight = torch.ones(3, 4), torch.randn(4, 6)

    def program(x):
        halves = torch.nn.functional.linear(x, weight.t()).chunk(2, dim=-1)  # views of what is made
        return {"hidden": (halves[0] * halves[1]).flatten(), "first": halves[0]}

    graphs.capture(KEY, program, (x,))
    first = graphs.run(KEY, program, (x,))
    for _ in range(3):
        x.copy_(torch.randn(3, 4))
        again = graphs.run(KEY, program, (x,))
        assert again is first
        for name, wanted in program(x).items():
            assert torch.equal(again[name], wanted)
    assert graphs.launches == {KEY: 4}


def test_python_is_not_asked_again(graphs):
    x, factors = torch.ones(2), [2.0]
    graphs.capture(KEY, lambda x: x * factors[0], (x,))
    factors[0] = 3.0
    assert graphs.run(KEY, lambda x: x * factors[0], (x,)).tolist() == [2, 2]


def test_writes_in_place_are_part_of_a_replay(graphs):
    state, x = torch.zeros(4), torch.ones(2)

    def program(x):
        state[1:3].add_(x)
        return state * 2

    graphs.capture(KEY, program, (x,))
    state.zero_()
    graphs.run(KEY, program, (x,))
    assert graphs.run(KEY, program, (x,)).tolist() == [0, 4, 4, 0]


def test_nothing_is_computed_before_the_first_replay(graphs):
    x, kept = torch.ones(2), []
    graphs.capture(KEY, lambda x: kept.append(x + 1) or kept[0], (x,))
    assert kept[0].isnan().all()
    assert graphs.run(KEY, torch.neg, (x,)).tolist() == [2, 2]


@pytest.mark.parametrize(
    "program", [lambda x: x * x.sum().item(), lambda x: x.nonzero(), lambda x: x[x > 0], lambda x: x if x[0] else -x]
)
def test_what_reads_values_on_the_host_is_refused(graphs, program):
    with pytest.raises(RecordingError, match="which no capture can hold"):
        graphs.capture(KEY, program, (torch.ones(2),))
    torch.ones(2).sum().item()  # and the recording is over


def test_what_reads_values_is_told_with_its_line_and_what_to_do(graphs):
    def program(x):
        return x * int(x.sum())  # here

    line = r"test_recording_graphs\.py:\d+, in program: return x \* int\(x\.sum\(\)\)  # here"
    with pytest.raises(RecordingError, match=rf"{line}\).*compute it in `plan`"):
        graphs.capture(KEY, program, (torch.ones(2),))


def test_an_index_by_places_is_not_taken_for_a_mask(graphs):
    x, places = torch.arange(4.0), torch.tensor([2, 0])
    graphs.capture(KEY, lambda x: x[places], (x,))
    assert graphs.run(KEY, torch.neg, (x,)).tolist() == [2, 0]


def test_what_was_not_captured_and_what_was_captured_already_is_refused(graphs):
    with pytest.raises(RecordingError, match="was not captured"):
        graphs.run(KEY, torch.neg, (torch.ones(1),))
    graphs.capture(KEY, torch.neg, (torch.ones(1),))
    with pytest.raises(RecordingError, match="captured already"):
        graphs.capture(KEY, torch.neg, (torch.ones(1),))


def test_a_piece_reads_what_an_earlier_one_made_and_what_was_put_on_a_bridge(graphs):
    one, two = (ProgramKey("forward", KEY.bucket, piece=piece) for piece in range(2))
    x, bridge = torch.tensor([1.0, 2.0]), torch.zeros(2)
    graphs.begin(one, (x,))
    crossing = x * 10
    graphs.end(one)
    graphs.begin(two, (x,))
    result = crossing + bridge
    graphs.end(two)
    for step in range(3):
        x.fill_(step)
        graphs.replay(one, (x,))
        bridge.fill_(step / 10)
        graphs.replay(two, (x,))
        assert result.tolist() == pytest.approx([step * 10.1] * 2)
