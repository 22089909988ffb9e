"""Running the kit. The only module that needs pytest, and only when it runs."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from jackfield_platforms.launching import apply_launch, environment
from jackfield_platforms.probe import LaunchOptions
from jackfield_platforms.selection import find

if TYPE_CHECKING:
    from jackfield_platforms.testing.conformance.report import Report
    from jackfield_platforms.testing.conformance.subject import Subject

DEFAULT_SEEDS = 3
_FOLDER = Path(__file__).parent
_INTERRUPTED, _INTERNAL_ERROR, _USAGE_ERROR = 2, 3, 4  # pytest's exit codes


class ConformanceError(RuntimeError):
    """The kit itself could not run. The message says what was wanted and what to do."""


class KitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the kit is run."""

    seeds: int = DEFAULT_SEEDS
    match: str = ""  # pytest's -k expression; empty: every check
    junit: str | None = None  # a file for JUnit's XML
    modules: tuple[str, ...] = ()  # files of further checks, beside the kit's own


def run(platform: str, options: KitOptions) -> Report:
    """Find the platform, set what its launch needs, check it. PlatformError when it cannot be used."""
    _pytest()  # before torch is imported, which takes seconds
    found = find(platform)
    cpus = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    apply_launch(environment(found, LaunchOptions(cpus=cpus)))
    from jackfield_platforms.testing.conformance.subject import load_subject  # imports torch

    return check(load_subject(found.name), options)


def check(subject: Subject, options: KitOptions) -> Report:
    """Run every check of the kit on `subject` in this process, and tell of each on standard output."""
    from jackfield_platforms.testing.conformance.kit_plugin import KitPlugin

    plugin = KitPlugin(subject, options.seeds)
    status = _pytest().main(_arguments(options), plugins=[plugin])
    if status in (_INTERRUPTED, _INTERNAL_ERROR, _USAGE_ERROR) and not plugin.report.count("failed"):
        raise ConformanceError(f"Wanted to run the checks; pytest ended with status {int(status)}, see above.")
    return plugin.report


def _arguments(options: KitOptions) -> list[str]:
    """The kit's own settings: no configuration, conftest or cache of the folder that it is started in plays a part."""
    settings = ["-c", str(_FOLDER / "pytest.ini"), "--rootdir", str(_FOLDER), "--noconftest", "--assert=plain"]
    settings += ["--continue-on-collection-errors"]
    without = [word for name in ("cacheprovider", "faulthandler", "logging") for word in ("-p", f"no:{name}")]
    chosen = ["-k", options.match] if options.match else []
    junit = [] if options.junit is None else [f"--junitxml={options.junit}"]
    files = [*map(str, sorted(_FOLDER.glob("*_checks.py"))), *options.modules]
    return ["-q", "--no-header", "--tb=short", *settings, *without, *chosen, *junit, *files]


def _pytest() -> ModuleType:
    try:
        import pytest
    except ModuleNotFoundError as error:
        if error.name != "pytest":
            raise
        raise ConformanceError(
            "Wanted pytest, which runs the conformance kit; it is not installed.\n"
            'Install the extra: pip install "jackfield-platforms[test]"'
        ) from None
    return pytest
