"""How long work takes, what the device reaches in plain torch, and the minutes that are left."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch

from gpu_parts.sizes import Sizes
from jackfield_gpu.platform import GpuPlatform
from jackfield_platforms.linear import torch_dtype

WARM_UP = 3  # runs


class Clock:
    """What is left of the minutes."""

    def __init__(self, minutes: float) -> None:
        self.ends = perf_counter() + 60 * minutes

    def left(self) -> float:
        return self.ends - perf_counter()

    def has(self, seconds: float, what: str) -> bool:
        """Whether so many seconds are left; otherwise says what is left out."""
        if self.left() >= seconds:
            return True
        print(f"left out: {what}")
        return False


class Speed:
    """What the device reaches in plain torch."""

    def __init__(self, bytes_s: float, flop_s: float) -> None:
        self.bytes_s, self.flop_s = bytes_s, flop_s

    @classmethod
    def measured(cls, platform: GpuPlatform, sizes: Sizes) -> Speed:
        device = platform.device()
        source = torch.ones(sizes.copied, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        a = torch.randn(sizes.matrix, sizes.matrix, dtype=torch_dtype(sizes.dtype), device=device)
        copy, product = (seconds(work, device, sizes.runs) for work in (lambda: target.copy_(source), lambda: a @ a))
        return cls(2 * source.nbytes / copy, 2 * sizes.matrix**3 / product)


def seconds(work: Callable[[], Any], device: torch.device, runs: int) -> float:
    """The median of device time; of wall time on the host."""
    for _ in range(WARM_UP):
        work()
    if device.type == "cpu":
        return median(host_seconds(work) for _ in range(runs))
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    for first, last in events:
        first.record()
        work()
        last.record()
    torch.cuda.synchronize()
    return median(first.elapsed_time(last) for first, last in events) / 1e3


def host_seconds(work: Callable[[], Any]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start
