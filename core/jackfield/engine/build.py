"""From options to a running engine in this process.

Imports torch only after the platform has said what must hold before.
"""

from __future__ import annotations

import os
import sys

from jackfield.config.options import EngineOptions
from jackfield.config.speculative_config import speculative_config
from jackfield.engine.engine import Engine
from jackfield_platforms.discovery import Found
from jackfield_platforms.launching import apply_launch, environment
from jackfield_platforms.probe import LaunchOptions
from jackfield_platforms.selection import find


def build_engine(options: EngineOptions, *, progress: bool = True) -> Engine:
    """Find the platform, load the model, size the cache.

    PlatformError, ConfigError, LoadError, Refused say what is wrong.
    """
    speculation = speculative_config(options.speculative_config)
    found = prepare(options.platform)
    draft = None
    if speculation is not None and speculation.drafts_by_model:
        draft = prepare(speculation.platform) if speculation.platform else found
    return _assemble(found, options, progress, draft)


def prepare(platform: str | None) -> Found:
    """Find the platform and give this process what must hold before torch is imported; PlatformError as in `find`."""
    found = find(platform)
    apply_launch(environment(found, LaunchOptions(cpus=_cpus())))
    return found


def _assemble(found: Found, options: EngineOptions, progress: bool, draft: Found | None) -> Engine:
    from jackfield.engine.assembly import assemble  # imports torch, which reads its environment once

    return assemble(found, options, progress=progress, draft_found=draft)


def _cpus() -> tuple[int, ...]:
    if sys.platform == "linux":
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
