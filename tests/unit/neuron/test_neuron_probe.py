"""The Neuron probe over stand-ins for device files and for `neuron-ls`."""

from __future__ import annotations

import msgspec
import pytest
from test_neuron_software import READY

from jackfield_neuron import probe
from jackfield_neuron.devices import DriverError, NeuronDevice
from jackfield_neuron.software import Package
from jackfield_platforms.asking import Question
from jackfield_platforms.discovery import ask
from jackfield_platforms.probe import LaunchOptions

TRN2 = NeuronDevice(0, 4, 96 << 30, 2, "trn2.3xlarge")


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / f"neuron{place}" for place in range(2)]
    for file in made:
        file.touch()
    return made


def judged(files, *found, software=READY, environ=None):
    return probe.judge(files, lambda: found, software, environ or {})


def test_cores_are_counted_and_devices_described(files):
    found = judged(files, TRN2, TRN2)
    assert (found.state, found.devices, found.score) == ("usable", 8, 100)
    assert found.why == (
        "2 x trn2.3xlarge device (4 cores, 96 GiB); torch-neuronx 2.9.0.2.11.1, neuronx-cc 2.22.1, torch 2.9.0, "
        "torch-xla 2.9.0"
    )


def test_a_machine_without_devices_is_fine_whatever_is_installed():
    placeholder = msgspec.structs.replace(READY, torch_neuronx=Package("torch-neuronx", "placeholder", "1.0"))
    found = judged([], software=placeholder)
    assert (found.state, found.why) == ("absent", "no /dev/neuron*")


def test_a_placeholder_beside_a_device_is_told(files):
    placeholder = msgspec.structs.replace(READY, torch_neuronx=Package("torch-neuronx", "placeholder", "1.0"))
    found = judged(files, TRN2, software=placeholder)
    assert found.state == "unusable"
    assert "; torch-neuronx 1.0 is PyPI's placeholder" in found.why


def test_a_tool_that_fails_makes_the_device_unusable_in_its_own_words(files):
    def broken():
        raise DriverError("neuron-ls ended with status 1: no driver")

    found = probe.judge(files, broken, READY, {})
    assert (found.state, found.why) == ("unusable", "neuron-ls ended with status 1: no driver")
    assert judged(files).why.endswith("neuron0 is there, and neuron-ls lists no device")


def test_a_file_that_may_not_be_opened_is_told(files, monkeypatch):
    monkeypatch.setattr(probe.os, "access", lambda file, mode: file != files[1])
    found = judged(files, TRN2)
    assert (found.state, found.why) == ("unusable", f"no permission on {files[1]}")


def test_visible_cores_are_counted_and_nonsense_is_quoted(files):
    assert judged(files, TRN2, environ={"NEURON_RT_VISIBLE_CORES": "1-2"}).devices == 2
    found = judged(files, TRN2, environ={"NEURON_RT_VISIBLE_CORES": "9"})
    assert found.state == "unusable"
    assert "names core 9; this machine has 4" in found.why


def test_the_first_inferentia_is_too_old(files):
    found = judged(files, NeuronDevice(0, 4, 8 << 30, 1, "inf1.xlarge"))
    assert found.state == "unusable"
    assert found.why.endswith("does not drive the first Inferentia; take Inf2, Trn1 or newer")


def test_this_machine_is_asked_as_a_launch_asks_it():
    answer = ask(Question("jackfield_neuron.probe"))
    assert answer.error is None
    assert answer.probe is not None
    assert answer.probe.why


def test_the_environment_is_asked_of_a_process_of_its_own(monkeypatch):
    for name in ("PJRT_DEVICE", "NEURON_PJRT_PROCESS_INDEX"):
        monkeypatch.delenv(name, raising=False)
    answer = ask(Question("jackfield_neuron.probe", LaunchOptions(local_rank=1, local_size=2)))
    assert answer.launch is not None
    assert answer.launch.env["PJRT_DEVICE"] == "NEURON"
    assert answer.launch.env["NEURON_PJRT_PROCESS_INDEX"] == "1"
