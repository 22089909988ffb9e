"""An emulated torch device: everything that a vendor's torch extension brings, with kernels that run on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.graph import EagerRunner, GraphRunner, ProgramKey
from jackfield_platforms.platform import Memory, Platform
from jackfield_platforms.testing.torch_device import NamedReads, TorchDevice, install

BYTES = 2 << 30


class EmulatedPlatform(Platform):
    """Device type `emulated`. Once a program has run, only `fetch` may copy to the host, until `synchronize`."""

    name = "emulated"
    device_type = "emulated"

    def __init__(self) -> None:
        self.torch_device = install(self.device_type, BYTES)
        self.torch_device.guarded = False

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=("float32", "bfloat16"), kv_dtypes=("float32", "bfloat16"), asynchronous=True)

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return ()  # the shared ones come through the hook `attention_backends`

    def memory(self, device: torch.device) -> Memory:
        memory = self.torch_device.memory
        return Memory(total=memory.limit, free=memory.limit - memory.allocated, limit="emulated")

    def watch_memory(self, device: torch.device) -> Callable[[], int] | None:
        memory = self.torch_device.memory
        before = memory.peak = memory.allocated
        return lambda: memory.peak - before

    def synchronize(self, device: torch.device) -> None:
        """Operations are done when they return; until the next program runs, reading costs no wait."""
        self.torch_device.guarded = False

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        computed = tensor.clone()

        def wait() -> Tensor:
            with self.torch_device.reading():
                return computed.cpu()

        return wait

    def graph_runner(self) -> GraphRunner:
        return GuardedRunner(self.torch_device)

    def describe(self) -> str:
        return "an emulated torch device"


class GuardedRunner(EagerRunner):
    """Runs programs as they are; once one has run, nothing is read on the host by accident."""

    def __init__(self, device: TorchDevice) -> None:
        self._device = device

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        self._device.guarded = True
        with NamedReads(self._device):
            return program(*buffers)
