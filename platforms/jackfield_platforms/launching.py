"""What must hold in a process before it imports the framework, as the chosen plugin states it."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

from jackfield_platforms.asking import Question
from jackfield_platforms.discovery import PROBE_SECONDS, Found, ask
from jackfield_platforms.probe import Launch, LaunchOptions
from jackfield_platforms.selection import PlatformError

logger = logging.getLogger(__name__)


def environment(found: Found, options: LaunchOptions, timeout: float = PROBE_SECONDS) -> Launch:
    """Ask the plugin, in a child process that inherits this one's variables. PlatformError says what went wrong."""
    answer = ask(Question(found.module, options), timeout)
    if answer.launch is None:
        details = f"\n{answer.traceback}" if answer.traceback else ""
        raise PlatformError(
            f"Wanted the launch environment of platform {found.name!r} from {found.module}; {answer.error}\n"
            f"Repair or upgrade {found.dist} {found.dist_version}, or choose another with --platform.{details}"
        )
    return answer.launch


def apply_launch(launch: Launch) -> None:
    """Set variables, load libraries and pin this process, before torch is imported.

    Variables replace those that are there: the plugin saw them and answered accordingly. Libraries are loaded with
    their symbols global; one that must be first in the process (an allocator) belongs into `env` as LD_PRELOAD and
    holds for children. When torch is already imported, what it may have read too early is logged as a warning.
    """
    changed = {name: value for name, value in launch.env.items() if os.environ.get(name) != value}
    if "torch" in sys.modules and (changed or launch.preload):
        late = ", ".join([*changed, *launch.preload])
        logger.warning("torch was imported before %s could take effect; start from a process without torch", late)
    os.environ.update(changed)
    for library in launch.preload:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    if launch.cpus:
        _pin(launch.cpus)


def _pin(cpus: tuple[int, ...]) -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(0, cpus)
    else:
        logger.warning("this system cannot pin a process to CPUs; %s CPUs were asked for", len(cpus))
