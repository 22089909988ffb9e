"""Copies to the host behind all that was launched, on a stream of their own."""

from __future__ import annotations

import pytest
import torch
from fake_cuda import FakeCuda

from jackfield_gpu.copies import HostCopies

CPU = torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch):
    made = FakeCuda()

    def record_stream(self, stream):
        made.events.append(f"kept for {stream.name}")

    monkeypatch.setattr(torch.Tensor, "record_stream", record_stream)
    return made


def test_a_copy_waits_for_what_was_launched_and_the_host_for_the_copy_alone(cuda):
    wait = HostCopies(CPU, cuda, pinned=False).start(torch.arange(5))
    assert cuda.events == ["side 1 waits for default", "event on side 1", "kept for side 1"]
    assert wait().tolist() == [0, 1, 2, 3, 4]
    assert cuda.events[-1] == "host waits for event"


def test_the_tensor_may_be_overwritten_at_once(cuda):
    tensor = torch.arange(5)
    wait = HostCopies(CPU, cuda, pinned=False).start(tensor)
    tensor.fill_(-1)
    assert wait().tolist() == [0, 1, 2, 3, 4]
