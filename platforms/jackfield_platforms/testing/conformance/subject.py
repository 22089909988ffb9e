"""What is under test: a platform, its attention backends and its probe."""

from __future__ import annotations

from typing import Any

import msgspec

from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.discovery import PROBES, installed
from jackfield_platforms.loading import load
from jackfield_platforms.platform import Platform


class Subject(msgspec.Struct, frozen=True, eq=False):
    """A platform with everything that the core would use of it."""

    name: str
    platform: Platform
    backends: tuple[type[AttentionBackend[Any]], ...]
    probe: str | None = None  # module; None: the platform was not found through an entry point

    def buckets(self, limits: Limits) -> BucketPlan:
        """The platform's plan of sizes."""
        return self.platform.buckets(limits)


def load_subject(name: str) -> Subject:
    """The installed platform of that name; PlatformError when there is none."""
    plugins = load(name)
    platform = plugins.platform(name)
    probe = next((point.module for point in installed(PROBES) if point.name == name), None)
    return Subject(name, platform, tuple(plugins.attention_backends(platform)), probe)
