"""The hooks of the Gaudi plugin."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_hpu.emulated import HpuEmulated, HpuStrict
from jackfield_hpu.platform import HpuPlatform
from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """The device, and what its code is tried on without one."""
    return {platform.name: platform for platform in (HpuPlatform, HpuEmulated, HpuStrict)}
