"""Copies to the host through the real torch-xla: of the numbers that were there, whatever was launched since."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torch_xla", reason="torch-xla is not installed: ci/xla makes an environment that has it")

import torch_xla

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import ProgramKey
from jackfield_xla.compilations import num_compilations
from jackfield_xla.graphs import XlaGraphs
from jackfield_xla.host_copies import start_copy


def test_later_runs_and_copies_from_the_host_do_not_reach_a_copy():
    graphs, key = XlaGraphs(), ProgramKey("forward", Bucket("decode", 4, 4))
    tensor = torch.arange(4).to(torch_xla.device())

    def program(tensor):
        tensor.add_(10)
        return tensor * 2

    graphs.capture(key, program, (tensor,))
    tensor.copy_(torch.arange(4))
    before, waits = num_compilations(), [start_copy(tensor)]
    for _ in range(3):
        waits += [start_copy(graphs.run(key, program, (tensor,))), start_copy(tensor)]
    tensor.copy_(torch.zeros(4, dtype=torch.int64))
    first = [wait()[0].item() for wait in waits]
    assert first == [0, 20, 10, 40, 20, 60, 30]
    assert num_compilations() == before


def test_an_operation_outside_of_programs_takes_the_buffer_and_reading_is_an_error():
    tensor = torch.arange(4).to(torch_xla.device())
    wait = start_copy(tensor)
    tensor.add_(10)
    torch_xla.sync()
    with pytest.raises(RuntimeError, match="while an async operation is in flight"):
        wait()


def test_a_copy_of_what_is_there_compiles_nothing():
    tensor = torch.arange(4).to(torch_xla.device())
    torch_xla.sync()
    before = num_compilations()
    assert start_copy(tensor)().tolist() == [0, 1, 2, 3]
    assert num_compilations() == before


def test_a_copy_launches_what_its_tensor_waits_for():
    tensor = torch.arange(4).to(torch_xla.device())
    assert start_copy(tensor * 2 + 1)().tolist() == [1, 3, 5, 7]
