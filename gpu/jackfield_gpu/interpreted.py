"""The kernels of a GPU on the host, under Triton's interpreter: right numbers without the device, and very slowly."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from jackfield_attention.triton.backend import TritonAttention
from jackfield_gpu.arch import Arch
from jackfield_gpu.platform import FLOAT8, GpuPlatform
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import Communicator, SingleRank
from jackfield_platforms.graph import EagerRunner, GraphRunner
from jackfield_platforms.platform import Memory, Platform, ServingSpec

SWITCH = "TRITON_INTERPRET"
"""Must be "1" before Triton is imported."""


class InterpretedGpu(GpuPlatform):
    """A GPU's ops, linear layers, experts and Triton attention over host tensors, for tests.

    RuntimeError where Triton would compile instead. bfloat16 is left out: the interpreter of Triton 3.6 to 3.9
    multiplies its bits as integers.
    """

    device_type = "cpu"

    def __init__(self, arch: Arch, multiprocessors: int) -> None:
        if os.environ.get(SWITCH) != "1":
            raise RuntimeError(f"{self.name} needs {SWITCH}=1 before Triton is imported; a launch by name sets it")
        super().__init__(arch, multiprocessors)

    def capabilities(self) -> Capabilities:
        dtypes = ("float32", "float16")
        return Capabilities(dtypes=dtypes, kv_dtypes=(*dtypes, FLOAT8), memory_utilization=0.25)

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return (TritonAttention,)

    def device(self, rank: int = 0) -> torch.device:
        return torch.device("cpu")

    def memory(self, device: torch.device) -> Memory:
        page, free, total = (os.sysconf(name) for name in ("SC_PAGE_SIZE", "SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
        return Memory(total=page * total, free=page * free, limit="physical memory", shared=True)

    def watch_memory(self, device: torch.device) -> Callable[[], int] | None:
        return None

    def synchronize(self, device: torch.device) -> None:
        """Every call is done when it returns."""

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        return Platform.fetch(self, tensor)

    def buckets(self, limits: Limits) -> BucketPlan:
        return BucketPlan()

    def graph_runner(self) -> GraphRunner:
        return EagerRunner()

    def collectives(self) -> str:
        return "gloo"

    def communicator(self, rank: int = 0, size: int = 1, meeting: str = "") -> Communicator:
        return SingleRank()

    def check(self, serving: ServingSpec) -> list[str]:
        return []

    def describe(self) -> str:
        return f"the kernels of {self.arch.name} under Triton's interpreter"
