"""What `neuron-ls --json-output` lists, with the fields of the vendor's "Neuron LS User Guide"."""

from __future__ import annotations

import json

import pytest

from jackfield_neuron import devices
from jackfield_neuron.devices import DriverError, NeuronDevice

TRN1 = {
    "neuron_device": 0,
    "bdf": "0000:00:1e.0",
    "cpu_affinity": "0-7",
    "numa_node": "-1",
    "connected_to": None,
    "nc_count": 2,
    "memory_size": 32 << 30,
    "neuroncore_ids": [0, 1],
    "neuron_processes": [],
}
TRN2 = {
    "instance_type": "trn2.48xlarge",
    "neuron_device": 3,
    "bdf": "cb:00.0",
    "connected_to": [15, 2, 7, 0],
    "nc_count": 4,
    "logical_neuroncore_config": 2,
    "memory_size": 96 << 30,
    "neuroncore_ids": [12, 13, 14, 15],
    "neuron_processes": [{"pid": 12, "command": "serve", "neuron_runtime_version": "2.0.0"}],
}


def tool(folder, script):
    path = folder / "neuron-ls"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path


def test_devices_of_two_generations_are_read():
    assert devices.listed(json.dumps([TRN1]).encode()) == (NeuronDevice(0, 2, 32 << 30),)
    (found,) = devices.listed(json.dumps([TRN2]).encode())
    assert found == NeuronDevice(3, 4, 96 << 30, 2, "trn2.48xlarge")
    assert found.core_bytes == 24 << 30


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (b"", "something unexpected"),
        (b'{"neuron_devices": []}', "something unexpected: Expected `array`"),
        (b'[{"neuron_device": 0, "memory_size": 1}]', "required field `nc_count`"),
        (b'[{"neuron_device": 0, "memory_size": 1, "nc_count": 0}]', "a device without cores"),
    ],
)
def test_another_output_is_told(output, why):
    with pytest.raises(DriverError, match=why):
        devices.listed(output)


def test_the_tool_is_run_from_the_vendor_s_folder(folder):
    tool(folder, f"test \"$*\" = --json-output && echo '{json.dumps([TRN1])}'")
    assert devices.ask() == (NeuronDevice(0, 2, 32 << 30),)


def test_a_tool_that_fails_is_quoted(folder):
    tool(folder, "echo 'level=info' >&2; echo 'failed to discover Neuron devices' >&2; exit 1")
    with pytest.raises(DriverError, match="ended with status 1: failed to discover Neuron devices"):
        devices.ask()
    tool(folder, "exit 3")
    with pytest.raises(DriverError, match="ended with status 3: it said nothing"):
        devices.ask()


def test_a_tool_that_hangs_is_left(folder, monkeypatch):
    monkeypatch.setattr(devices, "_SECONDS", 0.05)
    tool(folder, "exec sleep 5")
    with pytest.raises(DriverError, match=r"cannot be run: .*timed out"):
        devices.ask()


def test_without_the_tool_its_package_is_named(folder):
    with pytest.raises(DriverError, match=r"neither in .* nor on PATH; install aws-neuronx-tools"):
        devices.ask()
