"""The TPU probe, from what a machine has and what is installed."""

from __future__ import annotations

import pytest

from jackfield_platforms.asking import Question
from jackfield_platforms.discovery import ask
from jackfield_platforms.probe import LaunchOptions
from jackfield_tpu import probe
from jackfield_tpu.chips import Chips
from jackfield_tpu.software import Software
from jackfield_xla.software import Software as XlaSoftware

READY = Software(XlaSoftware("2.9.0", "2.9.0"), has_libtpu=True, has_jax=True)


@pytest.fixture
def chips(tmp_path):
    files = [tmp_path / "accel0", tmp_path / "accel1"]
    for file in files:
        file.touch()
    return Chips(("TPU v5e",) * 2, tuple(map(str, files)))


def test_no_chip_is_fine():
    found = probe.judge(Chips(), READY)
    assert (found.state, found.why) == ("absent", "no TPU: none on the PCI bus, no /dev/accel0")


def test_chips_and_their_software_are_usable(chips):
    found = probe.judge(chips, READY)
    assert (found.state, found.devices, found.score) == ("usable", 2, 100)
    assert found.why == "2 x TPU v5e, torch 2.9.0, torch-xla 2.9.0"


def test_chips_without_files_are_those_of_a_container_that_was_given_none():
    found = probe.judge(Chips(("TPU v5e",)), READY)
    assert found.state == "unusable"
    assert "neither /dev/accel* nor /dev/vfio/*" in found.why


def test_files_that_may_not_be_opened_are_named(chips, monkeypatch):
    monkeypatch.setattr("jackfield_tpu.chips.os.access", lambda file, mode: not file.endswith("1"))
    found = probe.judge(chips, READY)
    assert found.state == "unusable"
    assert found.why == f"2 x TPU v5e; no permission on {chips.files[1]}"


@pytest.mark.parametrize(
    ("xla", "has_libtpu", "reason"),
    [
        (XlaSoftware("2.13.0", None), True, "torch-xla is not installed"),
        (XlaSoftware("2.13.0", "2.9.0"), True, "is built for torch 2.9 and torch 2.13.0 is installed"),
        (XlaSoftware("2.9.0", "2.9.0"), False, "libtpu is not installed"),
    ],
)
def test_what_is_missing_or_clashes_is_said_with_what_to_install(chips, xla, has_libtpu, reason):
    found = probe.judge(chips, Software(xla, has_libtpu, has_jax=True))
    assert found.state == "unusable"
    assert reason in found.why
    assert 'pip install "jackfield-tpu[xla]"' in found.why


def test_without_jax_it_serves_and_says_what_is_missed(chips):
    found = probe.judge(chips, Software(READY.xla, has_libtpu=True, has_jax=False))
    assert found.state == "usable"
    assert "no JAX: attention without its kernel" in found.why


def test_the_runtime_is_told_to_take_the_chips():
    assert probe.environment(LaunchOptions()).env == {"PJRT_DEVICE": "TPU"}


def test_this_machine_is_asked_as_a_launch_asks_it():
    answer = ask(Question("jackfield_tpu.probe"))
    assert answer.error is None
    assert answer.probe is not None
    assert answer.probe.why
