"""Running the kit. The only module that needs pytest, and only when it runs."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from jackfield_platforms.launching import apply_launch, environment
from jackfield_platforms.probe import LaunchOptions
from jackfield_platforms.selection import find

if TYPE_CHECKING:
    from jackfield_platforms.testing.conformance.kit_plugin import KitPlugin
    from jackfield_platforms.testing.conformance.report import ListedCheck, Report
    from jackfield_platforms.testing.conformance.subject import Subject

DEFAULT_SEEDS = 3
Traceback = Literal["short", "long", "native"]
TRACEBACKS: tuple[Traceback, ...] = get_args(Traceback)
_FOLDER = Path(__file__).parent
_INTERRUPTED, _INTERNAL_ERROR, _USAGE_ERROR = 2, 3, 4  # pytest's exit codes


class ConformanceError(RuntimeError):
    """The kit itself could not run. The message says what was wanted and what to do."""


class KitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the kit is run."""

    seeds: int = DEFAULT_SEEDS
    match: str = ""  # pytest's -k expression, or the name of one case; empty: every check
    junit: str | None = None  # a file for JUnit's XML
    traceback: Traceback | None = None  # how pytest prints tracebacks of failures; None: it does not
    modules: tuple[str, ...] = ()  # files of further checks, beside the kit's own


def run(platform: str, options: KitOptions) -> Report:
    """Find the platform, set what its launch needs, check it. PlatformError when it cannot be used."""
    return check(_launched(platform), options)


def list_checks(platform: str, options: KitOptions) -> tuple[ListedCheck, ...]:
    """The checks that `options` choose for the platform, in order. Cases are made, and none is run."""
    with contextlib.redirect_stdout(io.StringIO()):
        plugin = _collected(_launched(platform), options, "--collect-only")
    for failed in plugin.report.results:
        why = f"{failed.told}; raised at {failed.raised_at}" if failed.raised_at else failed.told
        raise ConformanceError(f"Wanted to list the checks; the cases of {failed.check} could not be made: {why}")
    return plugin.listed


def check(subject: Subject, options: KitOptions) -> Report:
    """Run every check of the kit on `subject` in this process, and show progress on standard output.

    ConformanceError when pytest could not run, or `options.match` chooses nothing.
    """
    return _collected(subject, options).report


def _launched(platform: str) -> Subject:
    _pytest()  # before torch is imported, which takes seconds
    found = find(platform)
    cpus = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    apply_launch(environment(found, LaunchOptions(cpus=cpus)))
    from jackfield_platforms.testing.conformance.subject import load_subject  # imports torch

    return load_subject(found.name)


def _collected(subject: Subject, options: KitOptions, *more: str) -> KitPlugin:
    """pytest's work done: the plugin knows what was chosen and how it went."""
    from jackfield_platforms.testing.conformance.kit_plugin import KitPlugin

    plugin = KitPlugin(subject, options.seeds, options.match)
    status = _pytest().main([*_arguments(options), *more], plugins=[plugin])
    if plugin.report.count("failed"):
        return plugin
    if status in (_INTERRUPTED, _INTERNAL_ERROR, _USAGE_ERROR):
        raise ConformanceError(f"Wanted to run the checks; pytest ended with status {int(status)}, see above.")
    if not plugin.listed:
        near = difflib.get_close_matches(options.match, plugin.names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConformanceError(
            f"Wanted an expression for -k that chooses some of the {len(plugin.names)} checks; {options.match!r} "
            f"chooses none.{hint} --list shows their names; a case's name, with the brackets, chooses that one."
        )
    return plugin


def _arguments(options: KitOptions) -> list[str]:
    """The kit's own settings: no configuration, conftest or cache of the folder that it is started in plays a part."""
    settings = ["-c", str(_FOLDER / "pytest.ini"), "--rootdir", str(_FOLDER), "--noconftest", "--assert=plain"]
    settings += ["--continue-on-collection-errors"]
    without = [word for name in ("cacheprovider", "faulthandler", "logging") for word in ("-p", f"no:{name}")]
    junit = [] if options.junit is None else [f"--junitxml={options.junit}"]
    shown = ["--tb=short", "--no-summary"] if options.traceback is None else [f"--tb={options.traceback}", "-rN"]
    files = [*map(str, sorted(_FOLDER.glob("*_checks.py"))), *options.modules]
    return ["-q", "--no-header", *shown, *settings, *without, *junit, *files]


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
