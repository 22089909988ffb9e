"""What a plugin says about a device before any framework is imported. This module imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer of `probe()`: whether the device can be used on this machine, and why.

    `usable`: it can. `absent`: the device is not here, which is fine. `unusable`: the device is here but broken
    (driver, permissions, versions), which is an error unless another platform is asked for by name. The highest score
    wins: 10 is for the CPU that is always there, 100 for an accelerator. A tie is an error.
    """

    state: Literal["usable", "absent", "unusable"]
    why: str
    devices: int = 0
    score: int = 0
    by_name_only: bool = False  # never selected unless asked for: an emulated device, something experimental


class LaunchOptions(msgspec.Struct, frozen=True):
    """What `environment(options)` is told: everything that is known before the framework is imported."""

    local_rank: int = 0
    local_size: int = 1
    cpus: tuple[int, ...] = ()  # what this process may run on
    num_threads: int | None = None  # what the user asked for


class Launch(msgspec.Struct, frozen=True):
    """What must hold in a process before it imports the framework: variables, preloaded libraries, CPU affinity."""

    env: Mapping[str, str] = {}
    preload: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
