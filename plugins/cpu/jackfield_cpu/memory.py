"""Memory that this process could use: the machine's, or less where a control group says so."""

from __future__ import annotations

from pathlib import Path

import psutil

from jackfield_cpu.cgroup import memory_limits
from jackfield_platforms.platform import Memory


def process_memory(root: Path = Path("/")) -> Memory:
    """The least of physical memory and the limits of the process's control groups, in bytes.

    Free memory includes page cache, which the kernel gives back when it is needed. `root` is where /proc and /sys are.
    """
    machine = psutil.virtual_memory()
    memory = Memory(total=machine.total, free=machine.available, limit="physical memory", shared=True)
    for group in memory_limits(root):
        memory = Memory(
            total=min(memory.total, group.limit),
            free=min(memory.free, max(0, group.limit - group.used)),
            limit=f"cgroup {group.group}" if group.limit < memory.total else memory.limit,
            shared=True,
        )
    return memory
