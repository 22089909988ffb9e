"""The hooks of the ROCm plugin."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform
from jackfield_rocm.platform import RocmInterpreted, RocmPlatform


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """GPUs, and their kernels on the host."""
    return {RocmPlatform.name: RocmPlatform, RocmInterpreted.name: RocmInterpreted}
