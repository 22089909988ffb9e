"""Host memory through which plans go to the device, without a wait and without an allocation a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Int32s = npt.NDArray[np.int32]

GENERATIONS = 4
"""Buffers used in turn. The default loop has two steps in flight, each of one or two launches; with more the oldest
copy is waited for, which is right and seldom."""


@dataclass
class _Buffer:
    host: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int32))
    sent: Any = None  # the event behind its last copy

    def reserve(self, size: int, pinned: bool) -> None:
        if self.sent is not None:
            self.sent.synchronize()
        if self.host.numel() < size:
            self.host = torch.empty(max(size, 2 * self.host.numel()), dtype=torch.int32, pin_memory=pinned)


class Staging:
    """A ring of page-locked buffers. One is written while copies out of the others may still be under way."""

    def __init__(self, device: torch.device) -> None:
        self._is_host = device.type == "cpu"
        self._buffers = [_Buffer() for _ in range(GENERATIONS)]
        self._next = 0

    def take(self, size: int) -> Tensor:
        """int32 `[size]` on the host, to be filled and given to `send` before the next is taken."""
        self._next = (self._next + 1) % GENERATIONS
        buffer = self._buffers[self._next]
        buffer.reserve(size, pinned=not self._is_host)
        return buffer.host[:size]

    def send(self, numbers: Tensor, into: Tensor) -> None:
        """Copy what `take` gave, or its first part, to the first places of a device tensor, behind what runs there."""
        into[: numbers.numel()].copy_(numbers, non_blocking=True)
        if not self._is_host:
            buffer = self._buffers[self._next]
            buffer.sent = torch.cuda.Event() if buffer.sent is None else buffer.sent
            buffer.sent.record()
