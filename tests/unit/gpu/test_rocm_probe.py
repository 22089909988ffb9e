"""The ROCm probe over trees of files as the Linux driver makes them."""

from __future__ import annotations

import pytest

from jackfield_gpu.software import Software
from jackfield_gpu.torch_build import TorchBuild
from jackfield_platforms.probe import LaunchOptions
from jackfield_rocm import probe

READY = Software(TorchBuild("2.11.0+rocm7.1", hip="7.1.5"), triton=True)
CPU_NODE = "cpu_cores_count 96\nsimd_count 0\ngfx_target_version 0\nunique_id 0\n"


@pytest.fixture
def machine(tmp_path):
    """`machine(90402, 90402)`: a root with one CPU and GPUs of these versions."""

    def make(*versions: int, device: bool = True):
        nodes = tmp_path / "sys/class/kfd/kfd/topology/nodes"
        for place, text in enumerate([CPU_NODE, *(f"simd_count 1216\ngfx_target_version {v}\n" for v in versions)]):
            (nodes / str(place)).mkdir(parents=True)
            (nodes / str(place) / "properties").write_text(text)
        if device:
            (tmp_path / "dev").mkdir()
            (tmp_path / "dev/kfd").touch()
        return tmp_path

    return make


def test_gpus_are_counted_and_described(machine):
    found = probe.judge(machine(*[90402] * 11), READY, {})  # the folders' order is that of numbers, not of text
    assert (found.state, found.devices, found.score) == ("usable", 11, 100)
    assert found.why == "11 x gfx942, torch 2.11.0+rocm7.1, built for ROCm 7.1.5"


def test_a_machine_without_a_driver_or_a_gpu_is_fine(machine):
    root = machine(device=False)
    assert probe.judge(root, READY, {}).why == "no /dev/kfd: AMD's driver is not loaded"
    (root / "dev").mkdir()
    (root / "dev/kfd").touch()
    found = probe.judge(root, READY, {})
    assert (found.state, found.why) == ("absent", "AMD's driver finds no GPU that computes")


def test_a_torch_for_another_device_cannot_use_a_gpu_that_is_there(machine):
    root = machine(90402)
    for build, told in ((TorchBuild("2.13.0+cpu"), "the CPU alone"), (TorchBuild("2.11.0", cuda="13.0"), "CUDA 13.0")):
        found = probe.judge(root, Software(build, triton=True), {})
        assert found.state == "unusable"
        assert found.why.endswith(f"built for {told}; install one that is built for ROCm")


def test_a_gpu_that_the_kernels_were_not_written_for_is_told(machine):
    found = probe.judge(machine(90006), READY, {})
    assert found.state == "unusable"
    assert "gfx906 is none of gfx90a, gfx942" in found.why


def test_a_device_that_may_not_be_opened_is_told(machine, monkeypatch):
    monkeypatch.setattr(probe.os, "access", lambda path, mode: False)
    found = probe.judge(machine(90402), READY, {})
    assert (found.state, found.why) == (
        "unusable",
        "1 x gfx942; no permission on /dev/kfd: join the group that owns it (render)",
    )


def test_hidden_gpus_are_not_there(machine):
    root = machine(90402, 110000, 90402)
    found = probe.judge(root, READY, {"ROCR_VISIBLE_DEVICES": "0,2", "HIP_VISIBLE_DEVICES": "1"})
    assert (found.state, found.devices) == ("usable", 1)
    found = probe.judge(root, READY, {"HIP_VISIBLE_DEVICES": "-1"})
    assert (found.state, found.why) == ("absent", "HIP_VISIBLE_DEVICES=-1 hides all of 2 x gfx942, 1 x gfx1100")


def test_nothing_must_be_set_before_torch():
    assert dict(probe.environment(LaunchOptions()).env) == {}
