"""The CPU as a platform."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_attention.paged import PagedTorchAttention
from jackfield_cpu.cache_pages import SWITCH as CACHE_SWITCH
from jackfield_cpu.cache_pages import is_resident
from jackfield_cpu.kernels import SWITCH, TORCH_COMPILE, Kernels, kernels, missing
from jackfield_cpu.linear import OneDnnLinear, PanelLinear, onednn_refusals
from jackfield_cpu.memory import process_memory
from jackfield_cpu.native_attention import NativeAttention
from jackfield_cpu.native_experts import experts
from jackfield_cpu.native_graphs import NativeGraphs
from jackfield_cpu.native_layer import fuse
from jackfield_cpu.native_linear import NativeLinear
from jackfield_cpu.native_ops import ops
from jackfield_cpu.processor import this_processor
from jackfield_cpu.wide_linear import WideLinear, shortage
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.experts import ExpertsSpec, MakeExperts
from jackfield_platforms.fusion import DecoderSpec, Fuse
from jackfield_platforms.graph import GraphRunner
from jackfield_platforms.linear import LinearOp
from jackfield_platforms.ops import OpTable
from jackfield_platforms.platform import Memory, Platform


class CpuPlatform(Platform):
    """Host processors through torch. Every call finishes before it returns; any size runs."""

    name, device_type = "cpu", "cpu"

    def __init__(self) -> None:
        self.processor = this_processor()
        self.refusals = onednn_refusals(self.processor)
        self.kernels = kernels()
        self.compiles = os.environ.get(SWITCH) == TORCH_COMPILE
        self.is_cache_resident = is_resident()
        if self.is_cache_resident and not isinstance(self.kernels, Kernels):
            raise ValueError(
                f"{CACHE_SWITCH}=resident is for the cache of the plugin's own attention, and there is none "
                f"({self.kernels}); unset it"
            )

    def capabilities(self) -> Capabilities:
        dtypes = ("bfloat16", "float32", "float16")
        # Half of what is free: the machine is the user's own, and activations come out of the same memory
        return Capabilities(dtypes=dtypes, kv_dtypes=dtypes, asynchronous=False, memory_utilization=0.5, max_ranks=None)

    def attention_backends(self) -> Sequence[type[AttentionBackend[Any]]]:
        if self.compiles:
            from jackfield_cpu.compiled import UncompiledAttention  # imports torch's compiler

            return (UncompiledAttention,)
        return (NativeAttention, PagedTorchAttention, FlatBlockAttention)

    def device(self, rank: int = 0) -> torch.device:
        return torch.device("cpu")

    def memory(self, device: torch.device) -> Memory:
        return process_memory()

    def synchronize(self, device: torch.device) -> None:
        return  # nothing runs behind our back

    def linear_ops(self, weight_bytes: int = 0) -> Sequence[LinearOp]:
        if self.compiles:
            return ()  # weights that torch packed are opaque to its compiler
        objection = self.refusals.get("float32") or shortage(weight_bytes, process_memory().free)
        return (
            NativeLinear(self.kernels),
            OneDnnLinear(self.refusals),
            WideLinear(self.processor, objection),
            PanelLinear(self.processor),
        )

    def ops(self) -> OpTable:
        return ops(self.kernels)

    def fuse(self, spec: DecoderSpec) -> Fuse | str:
        return fuse(self.kernels, spec)

    def experts(self, spec: ExpertsSpec) -> MakeExperts | str:
        return experts(self.kernels, spec)

    def graph_runner(self) -> GraphRunner:
        if self.compiles:
            from jackfield_cpu.compiled import CompiledPrograms

            return CompiledPrograms()
        return NativeGraphs(self.kernels)

    def describe(self) -> str:
        if isinstance(self.kernels, Kernels):
            served = f"{self.kernels.name} kernels" + (
                ", a KV cache of native attention resident" if self.is_cache_resident else ""
            )
        else:
            served = f"{TORCH_COMPILE} instead of kernels" if self.compiles else missing(self.kernels)
        return f"{self.processor.describe()}, {torch.get_num_threads()} threads, {served}"
