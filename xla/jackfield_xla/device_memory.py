"""What the runtime says of a device's memory, where it says anything."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from jackfield_platforms.platform import Memory


class UnknownMemoryError(RuntimeError):
    """The runtime does not count the device's memory. The message says what to do."""


def counted(device: torch.device) -> dict[str, int] | None:
    """`bytes_used`, `bytes_limit`, `peak_bytes_used` of `device`; None: this runtime does not count them.

    `torch_xla.core.xla_model.get_memory_info` (its docstring); where a runtime has no such call it is a RuntimeError.
    """
    from torch_xla.core import xla_model

    try:
        return {name: int(count) for name, count in xla_model.get_memory_info(device).items()}
    except RuntimeError:
        return None


def device_memory(device: torch.device) -> Memory:
    """Total and free bytes of `device`; UnknownMemoryError where the runtime does not count them."""
    found = counted(device)
    if found is None:
        raise UnknownMemoryError(
            f"The runtime of torch-xla does not say how much memory {device} has, so that no cache can be sized from it"
        )
    return Memory(total=found["bytes_limit"], free=found["bytes_limit"] - found["bytes_used"], limit="device memory")


def watch(device: torch.device) -> Callable[[], int] | None:
    """As `Platform.watch_memory`. The peak is the process's own and cannot be set back: after a higher one, such as
    that of loading, the answer is an upper bound.
    """
    before = counted(device)
    if before is None:
        return None
    used = before["bytes_used"]

    def taken() -> int:
        now = counted(device)
        return 0 if now is None else max(0, now["peak_bytes_used"] - used)

    return taken


def host_memory() -> Memory:
    """Total and free bytes of this machine, which all of its processes share."""
    page, free, total = (os.sysconf(name) for name in ("SC_PAGE_SIZE", "SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    return Memory(total=page * total, free=page * free, limit="physical memory", shared=True)
