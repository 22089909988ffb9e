"""NVIDIA GPUs as a platform."""

from __future__ import annotations

import torch

from jackfield_cuda.flash_attention import FlashAttention
from jackfield_cuda.flashinfer_attention import FlashInferAttention
from jackfield_gpu.arch import nvidia
from jackfield_gpu.interpreted import InterpretedGpu
from jackfield_gpu.platform import GpuPlatform

_H100 = (9, 0), 132  # compute capability, multiprocessors


class CudaPlatform(GpuPlatform):
    """GPUs through CUDA. All that one process sees are taken to be of the first one's kind."""

    name = "cuda"
    vendor_attention = (FlashAttention, FlashInferAttention)

    def __init__(self) -> None:
        """RuntimeError where CUDA finds no GPU."""
        properties = torch.cuda.get_device_properties(0)
        super().__init__(nvidia(properties.major, properties.minor), properties.multi_processor_count)


class CudaInterpreted(InterpretedGpu):
    """What an H100 would be given, on the host."""

    name = "cuda-interpreted"

    def __init__(self) -> None:
        capability, multiprocessors = _H100
        super().__init__(nvidia(*capability), multiprocessors)
