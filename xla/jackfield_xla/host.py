"""A plugin's own platform through the real torch-xla, on the host's processor: for tests, and taken by name alone."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import torch

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.platform import Memory
from jackfield_xla.device_memory import host_memory
from jackfield_xla.platform import XlaPlatform


class XlaOnHost(XlaPlatform):
    """What a platform inherits first, before the plugin's, to be compiled for the processor and run there."""

    runtime = "CPU"

    def capabilities(self) -> Capabilities:
        """The device's, with a share of memory that leaves room for everybody else on the machine."""
        device = super().capabilities()  # type: ignore[safe-super]  # a plugin's platform comes next
        return msgspec.structs.replace(device, memory_utilization=0.25)

    def memory(self, device: torch.device) -> Memory:
        """torch-xla does not count on the host: the machine's memory."""
        return host_memory()

    def watch_memory(self, device: torch.device) -> Callable[[], int] | None:
        return None
