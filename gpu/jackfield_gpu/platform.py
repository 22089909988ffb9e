"""The platform that CUDA and ROCm share. A plugin adds its name, what its device is, and attention of its vendor's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from jackfield_attention.paged import PagedTorchAttention
from jackfield_attention.triton.backend import TritonAttention
from jackfield_gpu.arch import Arch
from jackfield_gpu.buckets import graph_buckets
from jackfield_gpu.copies import HostCopies
from jackfield_gpu.experts.experts import experts
from jackfield_gpu.graphs import StreamGraphs
from jackfield_gpu.linear.scaled import ScaledFloat8Linear, rounds_activations
from jackfield_gpu.linear.weight_only import WeightOnlyLinear
from jackfield_gpu.nccl import meet
from jackfield_gpu.ops.table import op_table
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import Communicator, SingleRank
from jackfield_platforms.experts import ExpertsSpec, MakeExperts
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.linear import LinearOp
from jackfield_platforms.ops import OpTable
from jackfield_platforms.platform import Memory, Platform, ServingSpec

FLOAT8 = "float8_e4m3fn"
"""Of a cache, on every GPU: attention's kernels widen it, by shifts where there is no instruction for it."""


class GpuPlatform(Platform):
    """GPUs that torch calls `cuda`. What is launched runs behind the host, in order, on the current stream."""

    device_type = "cuda"
    vendor_attention: ClassVar[tuple[type[AttentionBackend[Any]], ...]] = ()
    """Of libraries that may be installed; each refuses with a reason where its own is not."""

    def __init__(self, arch: Arch, multiprocessors: int) -> None:
        """`multiprocessors`: how many a device has (AMD: compute units); small products are cut to keep them busy."""
        self.arch, self.multiprocessors = arch, multiprocessors
        self._copies: HostCopies | None = None

    def capabilities(self) -> Capabilities:
        dtypes = self.arch.dtypes
        return Capabilities(
            dtypes=dtypes, kv_dtypes=(*dtypes, FLOAT8), asynchronous=True, pinned_memory=True, max_ranks=None
        )

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return (*self.vendor_attention, TritonAttention, PagedTorchAttention)

    def device(self, rank: int = 0) -> torch.device:
        """The GPU of a rank, made this thread's current one: that is where Triton launches."""
        device = torch.device(self.device_type, rank)
        torch.cuda.set_device(device)
        return device

    def memory(self, device: torch.device) -> Memory:
        free, total = torch.cuda.mem_get_info(device)
        # what torch has taken and nobody holds is as good as free
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Memory(total=total, free=min(total, free + cached), limit="GPU memory")

    def watch_memory(self, device: torch.device) -> Callable[[], int] | None:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        return lambda: torch.cuda.max_memory_allocated(device) - before

    def synchronize(self, device: torch.device) -> None:
        torch.cuda.synchronize(device)

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        if tensor.device.type == "cpu":
            return super().fetch(tensor)
        if self._copies is None:
            self._copies = HostCopies(tensor.device)
        return self._copies.start(tensor)

    def ops(self) -> OpTable:
        return op_table(self.arch)

    def linear_ops(self, weight_bytes: int = 0) -> Sequence[LinearOp]:
        weight_only = WeightOnlyLinear(self.arch, self.multiprocessors)
        return (ScaledFloat8Linear(self.arch), weight_only) if rounds_activations() else (weight_only,)

    def experts(self, spec: ExpertsSpec) -> MakeExperts | str:
        return experts(self.arch, spec)

    def buckets(self, limits: Limits) -> BucketPlan:
        return graph_buckets(limits)

    def graph_runner(self) -> GraphRunner:
        return StreamGraphs(torch.device(self.device_type, torch.cuda.current_device()))

    def collectives(self) -> str:
        return "nccl"

    def communicator(self, rank: int = 0, size: int = 1, meeting: str = "") -> Communicator:
        return SingleRank() if size == 1 else meet(self.device(rank), rank, size, meeting)

    def check(self, serving: ServingSpec) -> list[str]:
        visible = torch.cuda.device_count()
        if serving.tensor_parallel_size > visible:
            return [f"tensor_parallel_size is {serving.tensor_parallel_size}; this process sees {visible} GPUs"]
        return []

    def describe(self) -> str:
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        gib = properties.total_memory / 2**30
        return f"{properties.name}, {self.arch.name}, {self.multiprocessors} multiprocessors, {gib:.0f} GiB"
