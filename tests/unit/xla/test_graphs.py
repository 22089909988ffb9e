"""Programs through the real torch-xla on the host: compiled once, outputs that stay, caches written in place."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torch_xla", reason="torch-xla is not installed: ci/xla makes an environment that has it")

import torch_xla

from jackfield_platforms.attention import LayerKV
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import ProgramKey
from jackfield_xla.compilations import fallbacks, num_compilations
from jackfield_xla.graphs import XlaGraphs, cached
from jackfield_xla.recorded_graphs import RecordedGraphs

RUNNERS = pytest.mark.parametrize("runner", [XlaGraphs, RecordedGraphs])


@pytest.fixture
def device():
    return torch_xla.device()


def key(rows, name="forward"):
    return ProgramKey(name, Bucket("decode", rows, rows))


def layers(buffers):
    return {"layers": {0: ("backend", buffers, 7)}}


@RUNNERS
def test_a_program_is_compiled_once_whatever_its_buffers_hold(device, runner):
    graphs = runner()
    x, weight = torch.zeros(4, 8, device=device), torch.randn(8, 8).to(device)

    def program(x, weight):
        return {"hidden": torch.relu(x @ weight), "sums": x.sum(1)}

    before = num_compilations()
    graphs.capture(key(4), program, (x, weight))
    captured = num_compilations()
    assert captured > before
    for seed in range(5):
        new = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
        x.copy_(new)
        out = graphs.run(key(4), program, (x, weight))
        torch.testing.assert_close(out["hidden"].cpu(), torch.relu(new @ weight.cpu()))
        torch.testing.assert_close(out["sums"].cpu(), new.sum(1))
    assert num_compilations() == captured
    assert not fallbacks()


def test_what_is_pending_when_a_program_is_captured_is_no_part_of_it(device):
    graphs, x = XlaGraphs(), torch.ones(4, device=device)
    elsewhere = torch.full((4,), 2.0, device=device) * 3 + x
    graphs.capture(key(4), lambda x: x + 1, (x,))
    captured = num_compilations()
    assert graphs.run(key(4), None, (x,)).cpu().tolist() == [2] * 4
    assert elsewhere.cpu().tolist() == [7] * 4
    assert num_compilations() == captured


@RUNNERS
def test_outputs_are_the_same_tensors_and_another_size_does_not_disturb_them(device, runner):
    graphs, small, large = runner(), torch.zeros(2, device=device), torch.zeros(4, device=device)
    for x in (large, small):
        graphs.capture(key(len(x)), torch.neg, (x,))
    small.copy_(torch.full((2,), 5.0))
    first = graphs.run(key(2), torch.neg, (small,))
    large.copy_(torch.full((4,), 6.0))
    other = graphs.run(key(4), torch.neg, (large,))
    assert graphs.run(key(2), torch.neg, (small,)) is first
    assert (first.cpu().tolist(), other.cpu().tolist()) == ([-5] * 2, [-6] * 4)


@RUNNERS
def test_a_program_that_writes_in_place_changes_its_buffer(device, runner):
    graphs, x = runner(), torch.zeros(4, device=device)

    def program(x):
        x.add_(1)

    graphs.capture(key(4), program, (x,))
    x.copy_(torch.zeros(4))
    for _ in range(3):
        assert graphs.run(key(4), program, (x,)) is None
    assert x.cpu().tolist() == [3] * 4


def test_a_cache_is_written_where_it_lies(device):
    """A marked input may be used up: reading its old buffer afterwards is an error of the runtime."""
    graphs, rows = XlaGraphs(), torch.tensor([1, 3]).to(device)
    cache, x = torch.zeros(64, 8, device=device), torch.ones(2, 8, device=device)
    buffers = {"kv": LayerKV(cache), "rows": rows, "x": x}

    def program(buffers):
        buffers["kv"].cache.index_copy_(0, buffers["rows"], buffers["x"])
        return buffers["kv"].cache.sum(0)

    graphs.capture(key(2), program, (buffers,))
    old = cache.clone()  # shares the buffer
    graphs.run(key(2), program, (buffers,))
    assert cache.cpu().sum() == 16
    with pytest.raises(RuntimeError, match=r"donated|deleted"):
        old.cpu()


@RUNNERS
def test_what_was_not_captured_runs_and_is_launched(device, runner):
    x = torch.ones(4, device=device)
    assert runner().run(key(4), torch.neg, (x,)).cpu().tolist() == [-1] * 4


def test_caches_are_found_wherever_they_lie_and_once():
    cache, other = torch.zeros(2), torch.zeros(3)
    buffers = ({"a": [LayerKV(cache), LayerKV((cache, other))]}, torch.zeros(4))
    assert [id(tensor) for tensor in cached(buffers)] == [id(cache), id(other)]
