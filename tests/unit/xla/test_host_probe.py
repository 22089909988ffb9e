"""The probe of platforms that run through torch-xla on the host."""

from __future__ import annotations

import pytest

from jackfield_platforms.probe import LaunchOptions
from jackfield_xla import host_probe
from jackfield_xla.software import Software


def test_it_is_taken_by_name_alone(monkeypatch):
    monkeypatch.setattr(host_probe, "installed", lambda: Software("2.9.0", "2.9.0"))
    found = host_probe.probe()
    assert (found.state, found.by_name_only) == ("usable", True)
    assert found.why.startswith("torch 2.9.0, torch-xla 2.9.0")


@pytest.mark.parametrize(
    ("software", "reason"),
    [(Software("2.13.0", None), "torch-xla is not installed"), (Software("2.13.0", "2.9.0"), "is built for torch 2.9")],
)
def test_where_torch_xla_cannot_be_used_it_is_absent_with_the_reason(monkeypatch, software, reason):
    monkeypatch.setattr(host_probe, "installed", lambda: software)
    found = host_probe.probe()
    assert (found.state, found.by_name_only) == ("absent", True)
    assert reason in found.why


def test_the_runtime_is_told_to_take_the_processor():
    assert host_probe.environment(LaunchOptions()).env == {"PJRT_DEVICE": "CPU"}
