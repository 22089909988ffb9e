"""What the bridge counts and the device says of itself.

`habana_frameworks.torch.hpu`: `mem_get_info`, `memory_allocated`, `max_memory_allocated`, `reset_peak_memory_stats`,
`synchronize`, `get_device_name`, `Event` (Intel Gaudi documentation, "Intel Gaudi PyTorch Python API", hpu;
gaudi-pytorch-bridge, `torch/hpu`), and `hpu.metrics.metric_global("graph_compilation")`, whose statistics hold
`TotalNumber`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from jackfield_hpu.vendor import module
from jackfield_platforms.platform import Memory

_COMPILED = "TotalNumber"


def memory() -> Memory:
    """Of this process's device."""
    free, total = module("hpu").mem_get_info()
    return Memory(total=total, free=free, limit="device memory")


def watch() -> Callable[[], int]:
    """See `Platform.watch_memory`."""
    hpu = module("hpu")
    hpu.reset_peak_memory_stats()
    before: int = hpu.memory_allocated()

    def peak() -> int:
        most: int = hpu.max_memory_allocated()
        return max(most - before, 0)

    return peak


def synchronize() -> None:
    """Wait for all that was launched."""
    module("hpu").synchronize()


def fetch(tensor: Tensor) -> Callable[[], Tensor]:
    """See `Platform.fetch`: a copy behind what was launched, before what will be, and an event behind it."""
    host = tensor.to("cpu", non_blocking=True)
    event = module("hpu").Event()
    event.record()

    def wait() -> Tensor:
        event.synchronize()
        return host

    return wait


def num_compilations() -> int:
    """Graphs that the bridge has compiled in this process, in either mode."""
    metric = module("hpu.metrics").metric_global("graph_compilation")
    return int(dict(metric.stats())[_COMPILED])


def name(device: torch.device) -> str:
    """The device's own: `GAUDI3`."""
    found: str = module("hpu").get_device_name(device.index)
    return found
