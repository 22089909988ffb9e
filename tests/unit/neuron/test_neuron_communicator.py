"""Collectives: by torch.distributed's functions over two processes, and how the backend `xla` is asked for."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from gloo_neuron import GlooNeuron

from jackfield_neuron import communicator
from jackfield_platforms.testing.conformance.rank_checks import check_two_ranks_agree
from jackfield_platforms.testing.conformance.subject import Subject


def test_two_ranks_agree(tmp_path):
    check_two_ranks_agree(Subject("neuron", GlooNeuron(), ()), tmp_path)


@pytest.fixture
def calls(monkeypatch):
    """Stand-ins of torch-xla: `set_replication` of its API guide, and the module that registers the backend."""
    made = []
    xla_model = ModuleType("torch_xla.core.xla_model")
    xla_model.set_replication = lambda device, devices: made.append(("set_replication", device, devices))
    monkeypatch.setitem(sys.modules, "torch_xla.core.xla_model", xla_model)
    monkeypatch.setitem(
        sys.modules, "torch_xla.distributed.xla_backend", ModuleType("torch_xla.distributed.xla_backend")
    )
    dist = communicator.dist
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **given: made.append((*args, given)))
    monkeypatch.setattr(dist, "get_rank", lambda group: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda group: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda x, group: made.append(("all_reduce", x.tolist())))
    return made


def test_the_backend_of_the_device_is_asked_for_once_the_runtime_knows_of_ranks(calls, tmp_path):
    device = torch.device("cpu")
    met = communicator.meet(device, 1, 2, str(tmp_path / "meeting"))
    assert (met.rank, met.size) == (1, 2)
    told, (backend, given), reduced = calls
    assert told == ("set_replication", device, [device])
    assert backend == "xla"
    assert (given["rank"], given["world_size"]) == (1, 2)
    assert reduced == ("all_reduce", [1.0])
