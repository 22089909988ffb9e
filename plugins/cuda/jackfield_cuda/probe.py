"""What NVIDIA's driver says before torch is imported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from jackfield_cuda.nvml import Driver, DriverError, Gpu, NoDriverError, ask, load
from jackfield_gpu.arch import UnknownArchError, nvidia
from jackfield_gpu.software import Software, installed_software
from jackfield_gpu.visible import visible
from jackfield_platforms.probe import Launch, LaunchOptions, Probe

API_VERSION = (0, 1)
SCORE = 100
MODULE = Path("/proc/driver/nvidia/version")  # there as long as the kernel module is loaded
VISIBLE = "CUDA_VISIBLE_DEVICES"


def probe() -> Probe:
    """The GPUs that this process may use."""
    return judge(lambda: ask(load()), installed_software(), os.environ, module_loaded=MODULE.exists())


def judge(
    driver: Callable[[], Driver], software: Software, environ: Mapping[str, str], *, module_loaded: bool
) -> Probe:
    """The answer, from what the driver says, what is installed, and whether the kernel module is loaded."""
    try:
        said = driver()
    except NoDriverError as error:
        if module_loaded:
            return Probe("unusable", f"the driver's kernel module is loaded, but {error}; a container needs both")
        return Probe("absent", f"no NVIDIA driver: {error}")
    except DriverError as error:
        return Probe("unusable", f"the NVIDIA driver cannot be asked: {error}")
    if not said.gpus:
        return Probe("absent", f"NVIDIA driver {said.version} finds no GPU")
    gpus = visible(said.gpus, (VISIBLE,), environ)
    if not gpus:
        return Probe("absent", f"{VISIBLE}={environ[VISIBLE]} hides all of {_count(said.gpus)}")
    told = f"{_count(gpus)}, driver {said.version}"
    reason = _too_old(gpus[0]) or software.lacks("CUDA")
    if reason is not None:
        return Probe("unusable", f"{told}; {reason}")
    assert software.torch is not None
    return Probe("usable", f"{told}, {software.torch.describe()}", devices=len(gpus), score=SCORE)


def environment(options: LaunchOptions) -> Launch:
    """CUDA counts GPUs as NVML does, by their PCI bus; what the user set stays."""
    env = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return Launch(env={name: value for name, value in env.items() if name not in os.environ})


def _too_old(gpu: Gpu) -> str | None:
    try:
        nvidia(*gpu.capability)
    except UnknownArchError as error:
        return str(error)
    return None


def _count(gpus: tuple[Gpu, ...]) -> str:
    """`2 x NVIDIA H100 (compute capability 9.0, 80 GiB)`."""
    kinds = Counter((gpu.name, gpu.capability, round(gpu.memory / 2**30)) for gpu in gpus)
    return ", ".join(
        f"{count} x {name} (compute capability {capability[0]}.{capability[1]}, {gib} GiB)"
        for (name, capability, gib), count in kinds.items()
    )
