"""What the emulated torch device brings; its attention is what shared backends offer for it."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform
from jackfield_platforms.testing.emulated import EmulatedPlatform


@hookimpl
def platforms() -> Mapping[str, type[Platform]]:
    """The one platform."""
    return {EmulatedPlatform.name: EmulatedPlatform}
