"""What the runtime counts of a device's memory, and what is said where it counts nothing."""

from __future__ import annotations

import pytest
import torch
from fake_torch_xla import install

from jackfield_xla.device_memory import UnknownMemoryError, device_memory, host_memory, watch

DEVICE = torch.device("meta")  # any: the stand-in does not look at it


def counts(used, peak, limit=1000):
    return {"bytes_used": used, "bytes_limit": limit, "peak_bytes_used": peak}


def not_implemented(device=None):
    raise RuntimeError("Unimplemented: GetMemoryInfo is not implemented")


def test_free_is_what_is_not_used(monkeypatch):
    install(monkeypatch, get_memory_info=lambda device: counts(300, 500))
    memory = device_memory(DEVICE)
    assert (memory.total, memory.free, memory.shared) == (1000, 700, False)


def test_a_runtime_that_does_not_count_is_an_error(monkeypatch):
    install(monkeypatch, get_memory_info=not_implemented)
    with pytest.raises(UnknownMemoryError, match="does not say how much memory"):
        device_memory(DEVICE)
    assert watch(DEVICE) is None


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [
        (counts(300, 300), counts(350, 700), 400),  # a new peak: exact
        (counts(300, 500), counts(310, 500), 200),  # below an older one: an upper bound
        (counts(300, 300), counts(200, 300), 0),
    ],
)
def test_what_was_taken_is_the_peak_over_what_was_used(monkeypatch, before, after, taken):
    answers = [before, after]
    install(monkeypatch, get_memory_info=lambda device: answers.pop(0))
    told = watch(DEVICE)
    assert told() == taken


def test_the_machine_s_memory_is_shared():
    memory = host_memory()
    assert 0 < memory.free <= memory.total
    assert memory.shared
