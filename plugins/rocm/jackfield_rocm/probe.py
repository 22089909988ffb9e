"""What AMD's driver says before torch is imported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from jackfield_gpu.arch import UnknownArchError, amd
from jackfield_gpu.software import Software, installed_software
from jackfield_gpu.visible import visible
from jackfield_platforms.probe import Launch, LaunchOptions, Probe
from jackfield_rocm.kfd import DEVICE, gpus

API_VERSION = (0, 1)
SCORE = 100
VISIBLE = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""The runtime's own variable, and HIP's behind it (ROCm documentation, "GPU isolation techniques")."""


def probe() -> Probe:
    """The GPUs that this process may use."""
    return judge(Path("/"), installed_software(), os.environ)


def judge(root: Path, software: Software, environ: Mapping[str, str]) -> Probe:
    """The answer, from the driver's files below `root` and what is installed."""
    device = root / DEVICE
    if not device.exists():
        return Probe("absent", "no /dev/kfd: AMD's driver is not loaded")
    found = gpus(root)
    if not found:
        return Probe("absent", "AMD's driver finds no GPU that computes")
    if not os.access(device, os.R_OK | os.W_OK):
        return Probe("unusable", f"{_count(found)}; no permission on /dev/kfd: join the group that owns it (render)")
    seen = visible(found, VISIBLE, environ)
    if not seen:
        hiding = ", ".join(f"{name}={environ[name]}" for name in VISIBLE if name in environ)
        return Probe("absent", f"{hiding} hides all of {_count(found)}")
    reason = _unknown(seen[0]) or software.lacks("ROCm")
    if reason is not None:
        return Probe("unusable", f"{_count(seen)}; {reason}")
    assert software.torch is not None
    return Probe("usable", f"{_count(seen)}, {software.torch.describe()}", devices=len(seen), score=SCORE)


def environment(options: LaunchOptions) -> Launch:
    """Nothing must hold before torch is imported."""
    return Launch()


def _unknown(name: str) -> str | None:
    try:
        amd(name)
    except UnknownArchError as error:
        return str(error)
    return None


def _count(names: tuple[str, ...]) -> str:
    """`8 x gfx942`."""
    return ", ".join(f"{count} x {name}" for name, count in Counter(names).items())
