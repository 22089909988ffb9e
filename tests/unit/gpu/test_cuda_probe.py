"""The CUDA probe over a stand-in for NVML, whose functions are those of NVIDIA's NVML API Reference Guide."""

from __future__ import annotations

import ctypes

import pytest

from jackfield_cuda import nvml, probe
from jackfield_gpu.software import Software
from jackfield_gpu.torch_build import TorchBuild
from jackfield_platforms.asking import Question
from jackfield_platforms.discovery import ask
from jackfield_platforms.probe import LaunchOptions

READY = Software(TorchBuild("2.11.0+cu130", cuda="13.0"), triton=True)
ON_CPU = Software(TorchBuild("2.13.0+cpu"), triton=True)
H100 = ("NVIDIA H100 80GB HBM3", (9, 0), 80 << 30)
T4 = ("Tesla T4", (7, 5), 16 << 30)


class Function:
    """A foreign function: called, and given a result type."""

    def __init__(self, call):
        self.call, self.restype = call, ctypes.c_int

    def __call__(self, *args):
        return self.call(*args)


class FakeNvml:
    """NVML's library with these GPUs; `init` is what nvmlInit_v2 returns."""

    def __init__(self, *gpus, init=0):
        self.gpus, self.init, self.open = gpus, init, 0
        self.nvmlErrorString = Function(lambda status: b"Driver/library version mismatch")

    def nvmlInit_v2(self):  # noqa: N802
        self.open += self.init == 0
        return self.init

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def nvmlSystemGetDriverVersion(self, text, size):  # noqa: N802
        text.value = b"580.82.07"
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):  # noqa: N802
        handle._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetName(self, handle, text, size):  # noqa: N802
        text.value = self.gpus[handle.value - 1][0].encode()
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, handle, major, minor):  # noqa: N802
        major._obj.value, minor._obj.value = self.gpus[handle.value - 1][1]
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle, memory):  # noqa: N802
        memory._obj.total = self.gpus[handle.value - 1][2]
        return 0


def judged(library, software=READY, environ=None, module_loaded=True):
    return probe.judge(lambda: nvml.ask(library), software, environ or {}, module_loaded=module_loaded)


def no_library():
    raise nvml.NoDriverError("libnvidia-ml.so.1 is not found")


def test_gpus_are_counted_and_described():
    library = FakeNvml(H100, H100)
    found = judged(library)
    assert (found.state, found.devices, found.score) == ("usable", 2, 100)
    assert found.why == (
        "2 x NVIDIA H100 80GB HBM3 (compute capability 9.0, 80 GiB), driver 580.82.07, torch 2.11.0+cu130, "
        "built for CUDA 13.0"
    )
    assert library.open == 0


def test_a_machine_without_a_driver_is_fine():
    found = probe.judge(no_library, ON_CPU, {}, module_loaded=False)
    assert (found.state, found.why) == ("absent", "no NVIDIA driver: libnvidia-ml.so.1 is not found")
    assert judged(FakeNvml(init=9), module_loaded=False).state == "absent"


def test_a_driver_without_its_library_is_told():
    found = probe.judge(no_library, READY, {}, module_loaded=True)
    assert found.state == "unusable"
    assert "the driver's kernel module is loaded, but libnvidia-ml.so.1 is not found" in found.why


def test_a_driver_that_does_not_fit_its_library_is_told_in_its_own_words():
    found = judged(FakeNvml(init=18))
    assert (found.state, found.why) == (
        "unusable",
        "the NVIDIA driver cannot be asked: Driver/library version mismatch (NVML code 18)",
    )


def test_a_torch_for_the_cpu_cannot_use_a_gpu_that_is_there():
    found = judged(FakeNvml(H100), ON_CPU)
    assert found.state == "unusable"
    assert found.why.endswith("torch 2.13.0+cpu, built for the CPU alone; install one that is built for CUDA")


def test_a_gpu_that_is_too_old_is_told():
    found = judged(FakeNvml(T4))
    assert found.state == "unusable"
    assert found.why.endswith("compute capability 7.5 is below 8.0, which Triton's kernels need")


def test_hidden_gpus_are_not_there():
    found = judged(FakeNvml(T4, H100), environ={"CUDA_VISIBLE_DEVICES": "1"})
    assert (found.state, found.devices) == ("usable", 1)
    found = judged(FakeNvml(H100), environ={"CUDA_VISIBLE_DEVICES": ""})
    assert found.state == "absent"
    assert found.why.startswith("CUDA_VISIBLE_DEVICES= hides all of 1 x NVIDIA H100")
    assert judged(FakeNvml()).state == "absent"


def test_gpus_are_ordered_by_their_bus_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert dict(probe.environment(LaunchOptions()).env) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert dict(probe.environment(LaunchOptions()).env) == {}


@pytest.mark.parametrize("module", ["jackfield_cuda.probe", "jackfield_rocm.probe", "jackfield_gpu.interpreted_probe"])
def test_this_machine_is_asked_as_a_launch_asks_it(module):
    answer = ask(Question(module))
    assert answer.error is None
    assert answer.probe is not None
    assert answer.probe.why
