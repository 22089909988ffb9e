"""Programs captured whole and in pieces, over a stand-in for torch.cuda that records operations."""

from __future__ import annotations

import pytest
import torch
from fake_cuda import FakeCuda

from jackfield_gpu.capture import CaptureError
from jackfield_gpu.graphs import StreamGraphs
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import GraphRunner, ProgramKey
from jackfield_platforms.testing.conformance import graph_checks, piece_checks
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.strict import StrictPlatform

CPU = torch.device("cpu")
KEY = ProgramKey("forward", Bucket("decode", 4, 4))
GRAPH_CHECKS = [name for name in dir(graph_checks) if name.startswith("check_")]
PIECE_CHECKS = [name for name in dir(piece_checks) if name.startswith("check_")]


class OverFakeCuda(StrictPlatform):
    """The strict device with the runner under test."""

    def graph_runner(self) -> GraphRunner:
        return StreamGraphs(CPU, FakeCuda())


@pytest.fixture
def cuda():
    return FakeCuda()


@pytest.fixture
def graphs(cuda):
    return StreamGraphs(CPU, cuda)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("check", GRAPH_CHECKS)
def test_the_kit_s_checks_of_whole_programs_hold(check, seed):
    cases = list(graph_checks.program(Subject("strict", OverFakeCuda(), ())))
    assert cases
    for _, case in cases:
        getattr(graph_checks, check)(case, seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("check", PIECE_CHECKS)
def test_the_kit_s_checks_of_pieces_hold(check, seed):
    cases = list(piece_checks.split(Subject("strict", OverFakeCuda(), ())))
    assert cases
    for _, case in cases:
        getattr(piece_checks, check)(case, seed)


def test_a_program_is_warmed_up_before_it_is_captured_on_the_same_stream(graphs, cuda):
    seen = []

    def program(x):
        seen.append((cuda.current_stream(CPU).name, cuda.capturing is not None))
        return x * 2

    graphs.capture(KEY, program, (torch.ones(3),))
    assert seen == [("side 1", False), ("side 1", True)]
    assert cuda.streams == [cuda.default]
    assert cuda.events[:2] == ["side 1 waits for default", "default waits for side 1"]


def test_captures_share_a_pool_and_tell_what_it_grew_by(graphs, cuda):
    sizes = [
        graphs.capture(ProgramKey("forward", Bucket("decode", rows, rows)), lambda x: x + 1, (torch.ones(rows, 256),))
        for rows in (8, 4)
    ]
    assert sizes == [8 * 1024, 4 * 1024]
    assert cuda.captures == [("pool", "thread_local", "side 1")] * 2


def test_what_was_not_captured_runs_as_it_is(graphs):
    assert graphs.run(KEY, lambda x: x + 1, (torch.ones(2),)).tolist() == [2, 2]


def test_a_program_that_reads_a_value_is_told_what_captures_cannot_hold(graphs, cuda):
    with pytest.raises(CaptureError, match=r"program 'forward' at decode.*cannot be captured: .*no `\.item\(\)`"):
        graphs.capture(KEY, lambda x: x * float(x.sum()), (torch.ones(3),))
    assert cuda.capturing is None
    assert cuda.streams == [cuda.default]
    assert graphs.num_captures == 0


def test_a_capture_that_the_driver_gives_up_is_an_error(graphs, cuda):
    cuda.breaks = True
    with pytest.raises(CaptureError, match="cannot be captured: operation failed"):
        graphs.capture(KEY, lambda x: x + 1, (torch.ones(3),))


def test_an_error_of_the_program_itself_is_not_hidden(graphs, cuda):
    cuda.breaks = True

    def program(x):
        if cuda.capturing is not None:
            raise ZeroDivisionError
        return x

    with pytest.raises(ZeroDivisionError):
        graphs.capture(KEY, program, (torch.ones(3),))


def test_a_piece_that_failed_ends_without_another_error(graphs, cuda):
    pieces, key = graphs.pieces(), ProgramKey("forward", Bucket("mixed", 4, 4), piece=0)

    def fails():
        pieces.begin(key, ())
        try:
            raise ZeroDivisionError
        finally:
            cuda.breaks = True
            pieces.end(key)

    with pytest.raises(ZeroDivisionError):
        fails()
    assert cuda.streams == [cuda.default]


def test_pieces_are_begun_and_ended_in_turn(graphs):
    pieces = graphs.pieces()
    first, second = (ProgramKey("forward", Bucket("mixed", 4, 4), piece=piece) for piece in range(2))
    with pytest.raises(CaptureError, match="ended and not begun"):
        pieces.end(first)
    with pytest.raises(CaptureError, match=r"piece 0 of program 'forward' at mixed.* was not captured"):
        pieces.replay(first, ())
    pieces.begin(first, ())
    with pytest.raises(CaptureError, match="begun before piece 0"):
        pieces.begin(second, ())
    pieces.end(first)
    with pytest.raises(CaptureError, match="captured already"):
        pieces.begin(first, ())


def test_the_cache_is_emptied_once_a_program(graphs, cuda):
    graphs.capture(KEY, lambda x: x + 1, (torch.ones(3),))
    pieces = graphs.pieces()
    for piece in range(3):
        key = ProgramKey("forward", Bucket("mixed", 4, 4), piece=piece)
        pieces.begin(key, ())
        pieces.end(key)
    assert cuda.events.count("cache emptied") == 2


def test_nothing_is_captured_twice(graphs):
    graphs.capture(KEY, lambda x: x + 1, (torch.ones(3),))
    with pytest.raises(CaptureError, match="captured already"):
        graphs.capture(KEY, lambda x: x + 1, (torch.ones(3),))
