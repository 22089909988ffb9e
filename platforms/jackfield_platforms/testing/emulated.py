"""An emulated torch device: everything that a vendor's torch extension brings, with kernels that run on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.graph import GraphRunner, Pieces, ProgramKey
from jackfield_platforms.platform import Memory, Platform
from jackfield_platforms.testing.torch_device import NamedReads, TorchDevice, install

BYTES = 2 << 30


class EmulatedDevice(Platform):
    """What any platform inherits first, before the vendor's, to run on an emulated device of its `device_type`.

    Once a program has run, only `fetch` may copy to the host, until `synchronize`. A process has one such device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.torch_device = install(self.device_type, BYTES)
        self.torch_device.guarded = False

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
        computed = self.torch_device.alias(tensor).clone()
        return lambda: computed

    def num_compilations(self) -> int | None:
        """Every operation at sizes that it was not run at before: what a device compiles that is given operations as
        they come.
        """
        return len(self.torch_device.compiled) if self.capabilities().static_shapes else None

    def graph_runner(self) -> GraphRunner:
        return GuardedRunner(self.torch_device, super().graph_runner())


class EmulatedPlatform(EmulatedDevice):
    """Device type `emulated`, of any shape."""

    name = "emulated"
    device_type = "emulated"

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=("float32", "bfloat16"), kv_dtypes=("float32", "bfloat16"), asynchronous=True)

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return ()  # the shared ones come through the hook `attention_backends`

    def describe(self) -> str:
        return "an emulated torch device"


class GuardedRunner(GraphRunner):
    """Runs programs as another runner does; once one has run, nothing is read on the host by accident."""

    def __init__(self, device: TorchDevice, runner: GraphRunner) -> None:
        self._device, self._runner = device, runner
        self.captures = runner.captures

    def capture(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> int:
        return self._runner.capture(key, program, buffers)

    def run(self, key: ProgramKey, program: Callable[..., Any], buffers: tuple[Any, ...]) -> Any:
        self._device.guarded = True
        with NamedReads(self._device):
            return self._runner.run(key, program, buffers)

    def pieces(self) -> Pieces | str:
        return self._runner.pieces()
