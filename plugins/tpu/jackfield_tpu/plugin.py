"""The hooks of the TPU plugin."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform
from jackfield_tpu.platform import TpuOnHost, TpuPlatform, TpuStrict


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """TPUs, and what stands in for them."""
    return {platform.name: platform for platform in (TpuPlatform, TpuOnHost, TpuStrict)}
