"""Gaudi accelerators as a platform."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from jackfield_hpu import hccl, runtime
from jackfield_hpu.buckets import hpu_buckets
from jackfield_hpu.flat_attention import FlatAttention
from jackfield_hpu.float8.config import VARIABLE, quant_config
from jackfield_hpu.float8.ops import linear_ops
from jackfield_hpu.fused_attention import FusedAttention
from jackfield_hpu.fused_ops import FUSED_OPS
from jackfield_hpu.graphs import HpuGraphs, compile_program
from jackfield_hpu.kv_numbers import FLOAT8
from jackfield_hpu.lazy_mode import is_lazy
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import Communicator, SingleRank
from jackfield_platforms.compiled_graphs import CompiledGraphs
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.linear import LinearOp
from jackfield_platforms.ops import OpTable
from jackfield_platforms.platform import Memory, Platform, ServingSpec

DTYPES = ("bfloat16", "float16", "float32")


class HpuPlatform(Platform):
    """One Gaudi a process, through the vendor's bridge."""

    name = "hpu"
    device_type = "hpu"

    def capabilities(self) -> Capabilities:
        return Capabilities(
            dtypes=DTYPES, kv_dtypes=(*DTYPES, FLOAT8), asynchronous=True, static_shapes=True, max_ranks=None
        )

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        return (FusedAttention, FlatAttention)

    def device(self, rank: int = 0) -> torch.device:
        """A process sees one device, whatever its rank."""
        return torch.device(self.device_type, 0)

    def memory(self, device: torch.device) -> Memory:
        return runtime.memory()

    def watch_memory(self, device: torch.device) -> Callable[[], int] | None:
        return runtime.watch()

    def synchronize(self, device: torch.device) -> None:
        runtime.synchronize()

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        return runtime.fetch(tensor)

    def ops(self) -> OpTable:
        return FUSED_OPS

    def linear_ops(self, weight_bytes: int = 0) -> Sequence[LinearOp]:
        config = quant_config()
        return () if config is None else linear_ops(config)

    def buckets(self, limits: Limits) -> BucketPlan:
        return hpu_buckets(limits)

    def graph_runner(self) -> GraphRunner:
        return HpuGraphs() if is_lazy(os.environ) else CompiledGraphs(compile_program)

    def num_compilations(self) -> int | None:
        return runtime.num_compilations()

    def collectives(self) -> str:
        return hccl.BACKEND

    def communicator(self, rank: int = 0, size: int = 1, meeting: str = "") -> Communicator:
        return SingleRank() if size == 1 else hccl.meet(self.collectives(), rank, size, meeting)

    def check(self, serving: ServingSpec) -> list[str]:
        config = quant_config()
        if config is not None and config.mode == "MEASURE" and serving.tensor_parallel_size > 1:
            return [f"{VARIABLE} asks for measurements, which one rank writes; set tensor_parallel_size to 1"]
        return []

    def describe(self) -> str:
        mode = "lazy mode, HPU graphs" if is_lazy(os.environ) else "torch.compile"
        return f"{runtime.name(self.device())}, {mode}"
