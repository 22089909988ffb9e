"""What the strict devices bring; their attention is what shared backends offer for them."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform
from jackfield_platforms.testing.strict import CompiledStrictPlatform, StrictPlatform


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """With and without compiling what is captured."""
    return {platform.name: platform for platform in (StrictPlatform, CompiledStrictPlatform)}
