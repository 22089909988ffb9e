"""From options to a running engine in this process.

Imports torch only after the platform has said what must hold before.
"""

from __future__ import annotations

from jackfield.config.options import EngineOptions
from jackfield.config.speculative_config import speculative_config
from jackfield.engine.engine import Engine
from jackfield.engine.origin import here
from jackfield_platforms.discovery import Found
from jackfield_platforms.launching import apply_launch, environment
from jackfield_platforms.probe import LaunchOptions
from jackfield_platforms.selection import find


def build_engine(options: EngineOptions, *, progress: bool = True) -> Engine:
    """Find the platform, start the other ranks if there are to be any, load the model, size the cache.

    PlatformError, ConfigError, LoadError, Refused say what is wrong; ExecutorLost what happened to another rank. Call
    `Engine.close` in the end.
    """
    speculation = speculative_config(options.speculative_config)
    origin = here()
    launch = LaunchOptions(local_size=max(1, options.tensor_parallel_size), cpus=origin.cpus)
    found = prepare(options.platform, launch)
    draft = None
    if speculation is not None and speculation.drafts_by_model:
        draft = prepare(speculation.platform) if speculation.platform else found
    from jackfield.engine.assembly import assemble  # imports torch, which reads its environment once

    return assemble(found, options, origin, progress=progress, draft_found=draft)


def prepare(platform: str | None, launch: LaunchOptions | None = None) -> Found:
    """Find the platform and give this process what must hold before torch is imported; PlatformError as in `find`.

    `launch` says which rank this is; None: the only one.
    """
    found = find(platform)
    apply_launch(environment(found, launch or LaunchOptions(cpus=here().cpus)))
    return found
