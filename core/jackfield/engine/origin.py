"""What a process was given when it started, before a platform's launch changes it: its other ranks start from that."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import msgspec


class Origin(msgspec.Struct, frozen=True):
    """The environment, and the CPUs that all ranks on this machine share."""

    env: Mapping[str, str]
    cpus: tuple[int, ...]


def here() -> Origin:
    """This process as it is now."""
    if sys.platform == "linux":
        return Origin(dict(os.environ), tuple(sorted(os.sched_getaffinity(0))))
    return Origin(dict(os.environ), tuple(range(os.cpu_count() or 1)))
