"""The hooks of the CUDA plugin."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_cuda.platform import CudaInterpreted, CudaPlatform
from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """GPUs, and their kernels on the host."""
    return {CudaPlatform.name: CudaPlatform, CudaInterpreted.name: CudaInterpreted}
