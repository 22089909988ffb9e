"""The hooks of the CPU plugin."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_cpu.platform import CpuPlatform
from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """The one platform of this plugin."""
    return {CpuPlatform.name: CpuPlatform}
