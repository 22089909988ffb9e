"""AMD GPUs as a platform. torch calls them `cuda`, HIP's graphs CUDA graphs, and RCCL nccl."""

from __future__ import annotations

import torch

from jackfield_gpu.arch import amd
from jackfield_gpu.interpreted import InterpretedGpu
from jackfield_gpu.platform import GpuPlatform
from jackfield_rocm.aiter_attention import AiterAttention

_MI300X = "gfx942", 304  # name, compute units


class RocmPlatform(GpuPlatform):
    """GPUs through ROCm. All that one process sees are taken to be of the first one's kind."""

    name = "rocm"
    vendor_attention = (AiterAttention,)

    def __init__(self) -> None:
        """RuntimeError where ROCm finds no GPU."""
        properties = torch.cuda.get_device_properties(0)
        super().__init__(amd(properties.gcnArchName), properties.multi_processor_count)


class RocmInterpreted(InterpretedGpu):
    """What an MI300X would be given, on the host."""

    name = "rocm-interpreted"

    def __init__(self) -> None:
        name, compute_units = _MI300X
        super().__init__(amd(name), compute_units)
