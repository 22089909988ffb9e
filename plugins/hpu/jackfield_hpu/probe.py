"""What the machine says of Gaudi devices before torch is imported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jackfield_hpu import hl_smi
from jackfield_hpu.devices import OPERATIONAL, Accelerator, accelerators
from jackfield_hpu.hl_smi import Listed, ToolError
from jackfield_hpu.launch import VISIBLE, ModulesError, variables, visible_modules
from jackfield_hpu.software import Software, installed
from jackfield_platforms.probe import Launch, LaunchOptions, Probe

API_VERSION = (0, 1)
SCORE = 100
_TOO_OLD = "GAUDI", "GAUDI SEC", "GOYA"  # of the driver's device types


def probe() -> Probe:
    """The devices that this process may use."""
    return judge(accelerators(Path("/")), hl_smi.ask, installed(), os.environ)


def judge(
    found: Sequence[Accelerator],
    ask: Callable[[], tuple[Listed, ...] | None],
    software: Software,
    environ: Mapping[str, str],
) -> Probe:
    """The answer, from what the driver lists, what hl-smi says if it is there, what is installed, what the user set."""
    if not found:
        return Probe("absent", "no Gaudi device below /sys/class/accel")
    try:
        listed = ask()
        modules = visible_modules(environ)
    except (ToolError, ModulesError) as error:
        return Probe("unusable", str(error))
    told = _told(found, listed)
    reason = _trouble(found) or software.lacks()
    if reason is not None:
        return Probe("unusable", f"{told}; {reason}")
    usable = len(found) if modules is None else _present(modules, listed, len(found))
    if not usable:
        return Probe("absent", f"{VISIBLE}={environ[VISIBLE]} names none of {told}")
    return Probe("usable", f"{told}, {software.describe()}", devices=usable, score=SCORE)


def environment(options: LaunchOptions) -> Launch:
    """The bridge's mode, and a device for each rank; what the user set stays."""
    return Launch(env=variables(options, os.environ))


def _trouble(found: Sequence[Accelerator]) -> str | None:
    for device in found:
        if device.kind in _TOO_OLD:
            return f"{device.kind} is too old: the first that multiplies 8-bit floats is Gaudi 2, and it is the least"
        if device.status != OPERATIONAL:
            return f"{device.name} is {device.status!r}; hl-smi tells more"
        if not device.is_open:
            return f"no permission on /dev/accel/{device.name}"
    return None


def _present(modules: Sequence[int], listed: tuple[Listed, ...] | None, count: int) -> int:
    """How many of the modules that the user named are there."""
    there = set(range(count)) if listed is None else {device.module_id for device in listed}
    return len(there.intersection(modules))


def _told(found: Sequence[Accelerator], listed: tuple[Listed, ...] | None) -> str:
    """`8 x GAUDI3 (HL-325L, 128 GiB), driver 1.22.1`; without hl-smi what the driver says alone."""
    kinds = Counter(device.kind for device in found)
    told = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    if not listed:
        return told
    first = listed[0]
    return f"{told} ({first.name}, {round(first.mib / 1024)} GiB), driver {first.driver}"
