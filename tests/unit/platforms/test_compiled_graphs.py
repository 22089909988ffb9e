"""Compiled programs: one compilation a key, and outputs that stay where they are."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.compiled_graphs import CompiledGraphs, with_code_of_its_own
from jackfield_platforms.graph import ProgramKey


class Pair(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


def key(rows: int, name: str = "forward") -> ProgramKey:
    return ProgramKey(name, Bucket("decode", rows, rows))


def test_a_program_is_compiled_once_and_its_outputs_keep_their_place():
    asked = []

    def compile(program):
        asked.append(program)
        return program

    def program(x):
        return {"pair": Pair(x - 1, x + 1), "size": 3}

    graphs, x = CompiledGraphs(compile), torch.zeros(4)
    assert graphs.capture(key(4), program, (x,)) == 2 * 4 * 4
    first = graphs.run(key(4), program, (x,))
    places = [tensor.data_ptr() for tensor in first["pair"]]
    x.fill_(5)
    second = graphs.run(key(4), program, (x,))
    assert [tensor.data_ptr() for tensor in second["pair"]] == places
    assert (second["pair"].low.tolist(), second["pair"].high.tolist()) == ([4] * 4, [6] * 4)
    assert (len(asked), graphs.num_captures, second["size"]) == (1, 1, 3)


def test_outputs_are_not_the_compiled_program_s_own():
    held = torch.zeros(2)
    graphs = CompiledGraphs(lambda program: program)
    graphs.capture(key(2), lambda: held, ())
    assert graphs.run(key(2), lambda: held, ()).data_ptr() != held.data_ptr()


def test_what_was_not_captured_runs_as_it_is():
    graphs = CompiledGraphs(pytest.fail)
    assert graphs.run(key(2), torch.neg, (torch.ones(2),)).tolist() == [-1, -1]


def test_a_program_that_writes_in_place_may_return_nothing():
    def program(x):
        x.add_(1)

    graphs, table = CompiledGraphs(lambda program: program), torch.zeros(3)
    assert graphs.capture(key(3), program, (table,)) == 0
    assert graphs.run(key(3), program, (table,)) is None
    assert table.tolist() == [2, 2, 2]


def test_each_size_has_code_of_its_own_so_that_many_compile():
    counted = CompileCounter()

    def double(x):
        return x * 2

    graphs = CompiledGraphs(lambda program: torch.compile(program, backend=counted, fullgraph=True, dynamic=False))
    for rows in range(1, 3 + torch._dynamo.config.recompile_limit):
        graphs.capture(key(rows), double, (torch.ones(rows),))
    frames = counted.frame_count
    for rows in range(1, 3 + torch._dynamo.config.recompile_limit):
        assert graphs.run(key(rows), double, (torch.full((rows,), 3.0),)).tolist() == [6.0] * rows
    assert counted.frame_count == frames == 2 + torch._dynamo.config.recompile_limit
    assert with_code_of_its_own(double).__code__ is not with_code_of_its_own(double).__code__
