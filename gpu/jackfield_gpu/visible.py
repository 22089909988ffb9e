"""The variables that hide GPUs from a process, such as CUDA_VISIBLE_DEVICES. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

Device = TypeVar("Device")


def visible(devices: Sequence[Device], names: Sequence[str], environ: Mapping[str, str]) -> tuple[Device, ...]:
    """What is left of the machine's `devices` after each variable of `names` that is set, the outermost first.

    A variable lists places among what the one before it left. As in the CUDA Programming Guide ("CUDA Environment
    Variables") the list ends at the first entry that is no place, and an empty variable hides all. An entry by UUID is
    not looked up: from such a variable on everything stays as it is, for the framework to decide.
    """
    left = tuple(devices)
    for name in names:
        if name not in environ:
            continue
        entries = [entry.strip() for entry in environ[name].split(",")]
        if any(entry.startswith(("GPU-", "MIG-")) for entry in entries):
            return left
        left = _taken(left, entries)
    return left


def _taken(devices: tuple[Device, ...], entries: Sequence[str]) -> tuple[Device, ...]:
    taken = []
    for entry in entries:
        if not entry.isdigit() or int(entry) >= len(devices):
            break
        taken.append(devices[int(entry)])
    return tuple(taken)
