"""What every platform is that is reached through torch-xla."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from jackfield_platforms.communicator import Communicator, SingleRank
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.linear import LinearOp
from jackfield_platforms.platform import Memory, Platform
from jackfield_xla.compilations import num_compilations
from jackfield_xla.device_memory import device_memory, watch
from jackfield_xla.graphs import XlaGraphs, launch
from jackfield_xla.host_copies import start_copy
from jackfield_xla.program_cache import use_folder
from jackfield_xla.recorded_graphs import RecordedGraphs
from jackfield_xla.sharded_linear import ShardedLinear
from jackfield_xla.spmd import VARIABLE, SpmdCommunicator, is_wanted


class XlaPlatform(Platform):
    """Devices that torch calls `xla`. What a device can do, and how it attends, a plugin's own platform says."""

    device_type = "xla"
    runtime: ClassVar[str]
    """What the runtime calls the device, and `PJRT_DEVICE` must say: "TPU", "NEURON", "CPU"."""

    def __init__(self) -> None:
        super().__init__()
        self._spmd: SpmdCommunicator | None = None

    def device(self, rank: int = 0) -> torch.device:
        """A rank's device among those of this process; RuntimeError where the runtime drives another kind."""
        import torch_xla
        from torch_xla import runtime

        found = runtime.device_type()
        if found != self.runtime:
            raise RuntimeError(
                f"Platform {self.name!r} needs PJRT_DEVICE={self.runtime}, and torch-xla runs on {found}; a launch "
                f"with --platform {self.name} sets it"
            )
        use_folder()
        device: torch.device = torch_xla.device(rank)
        return device

    def communicator(self, rank: int = 0, size: int = 1, meeting: str = "") -> Communicator:
        """One rank; where the user asked for it, over all devices. ValueError for several."""
        if size > 1:
            raise ValueError(
                f"Platform {self.name!r} has one rank over all of its devices, not {size}; {VARIABLE}=1 cuts weights"
            )
        if not is_wanted():
            return SingleRank()
        if self._spmd is None:
            self._spmd = SpmdCommunicator()
        return self._spmd

    def linear_ops(self, weight_bytes: int = 0) -> Sequence[LinearOp]:
        comm = self.communicator()
        if not isinstance(comm, SpmdCommunicator):
            return ()
        return ShardedLinear(comm, "column"), ShardedLinear(comm, "row")

    def memory(self, device: torch.device) -> Memory:
        return device_memory(device)

    def watch_memory(self, device: torch.device) -> Callable[[], int] | None:
        return watch(device)

    def synchronize(self, device: torch.device) -> None:
        """Launch what was recorded, and wait until all devices of the process are done
        (`torch_xla.core.xla_model.wait_device_ops`, which knows them by names of its own).
        """
        from torch_xla.core import xla_model

        launch()
        xla_model.wait_device_ops()

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        return super().fetch(tensor) if tensor.device.type == "cpu" else start_copy(tensor)

    def graph_runner(self) -> GraphRunner:
        return RecordedGraphs() if is_wanted() else XlaGraphs()

    def num_compilations(self) -> int | None:
        return num_compilations()
