"""From options to a running engine in this process.

Imports torch only after the platform has said what must hold before.
"""

from __future__ import annotations

from jackfield.config.options import EngineOptions
from jackfield.engine.engine import Engine
from jackfield.engine.origin import Origin, here
from jackfield_platforms.discovery import Found
from jackfield_platforms.launching import apply_launch, environment
from jackfield_platforms.probe import LaunchOptions
from jackfield_platforms.selection import find


def build_engine(options: EngineOptions, *, progress: bool = True) -> Engine:
    """Find the platform, start the other ranks if there are to be any, load the model, size the cache.

    PlatformError, ConfigError, LoadError, Refused say what is wrong; ExecutorLost what happened to another rank. Call
    `Engine.close` in the end.
    """
    origin = here()
    launch = LaunchOptions(local_size=max(1, options.tensor_parallel_size), cpus=origin.cpus)
    return _assemble(prepare(options.platform, launch), options, origin, progress)


def prepare(platform: str | None, launch: LaunchOptions | None = None) -> Found:
    """Find the platform and give this process what must hold before torch is imported; PlatformError as in `find`.

    `launch` says which rank this is; None: the only one.
    """
    found = find(platform)
    apply_launch(environment(found, launch or LaunchOptions(cpus=here().cpus)))
    return found


def _assemble(found: Found, options: EngineOptions, origin: Origin, progress: bool) -> Engine:
    from jackfield.engine.assembly import assemble  # imports torch, which reads its environment once

    return assemble(found, options, origin, progress=progress)
