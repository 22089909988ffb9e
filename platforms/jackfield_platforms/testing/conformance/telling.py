"""What the commands print of a report: failures in a few lines each, and what was not offered."""

from __future__ import annotations

import shlex
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

from jackfield_platforms.testing.conformance.report import CheckResult, ListedCheck, Report

_CASES = 3  # of a check are shown; the report holds them all
_LINES, _LINE = 8, 400  # of a message, and characters of each: torch's may be pages
_INDENT = "    "


def failures(report: Report, again: str) -> str:
    """Every check that failed: its first cases, and how many more. `again` is the command that runs the kit."""
    by_check: dict[str, list[CheckResult]] = {}
    for result in report.results:
        by_check.setdefault(result.function, []).append(result)
    failed = {name: [one for one in results if one.outcome == "failed"] for name, results in by_check.items()}
    told = [_check(name, found, len(by_check[name]), again) for name, found in failed.items() if found]
    return "\n".join(told)


def _check(name: str, failed: Sequence[CheckResult], num_cases: int, again: str) -> str:
    """The cases whose messages differ first: the same one thrice tells no more than once."""
    if "::" not in failed[0].check:
        return f"\nFAILED {name}: the cases of its checks could not be made\n{_case(failed[0])}"
    firsts: dict[str, CheckResult] = {}
    for one in failed:
        firsts.setdefault(one.told, one)
    shown = [*firsts.values(), *(one for one in failed if firsts[one.told] is not one)]
    lines = [f"\nFAILED {name}, {len(failed)} of {num_cases} cases"]
    for one in shown[:_CASES]:
        seed = "" if one.seed is None else f"seed {one.seed}; "
        lines += [f"  {one.check}", _case(one), f"{_INDENT}{seed}alone: {again} -k {shlex.quote(one.case)}"]
    if len(failed) > _CASES:
        lines.append(f"  and {len(failed) - _CASES} more, which --json writes; all: {again} -k {name}")
    return "\n".join(lines)


def _case(result: CheckResult) -> str:
    given = result.told.strip().splitlines()
    kept = given if len(given) <= _LINES else [*given[: _LINES - 1], f"... ({len(given) - _LINES + 1} lines more)"]
    lines = [line if len(line) <= _LINE else f"{line[:_LINE]} ..." for line in kept]
    lines += [f"raised at {result.raised_at}"] if result.raised_at else []
    return textwrap.indent("\n".join(lines), _INDENT)


def not_offered(report: Report) -> str:
    """Each check that had no case, with what it needs; "" when every one had some."""
    lacking = {one.function: one.told for one in report.results if one.outcome == "not offered"}
    lines = [_wrapped(f"  {name}: {needs}") for name, needs in lacking.items()]
    return "\n".join([f"\nNot offered, so not checked ({len(lines)}):", *lines]) if lines else ""


def listing(checks: Iterable[ListedCheck]) -> str:
    """Every check under its module: how many cases it has, and what it is about."""
    lines: list[str] = []
    for module, found in groupby(checks, lambda one: one.module):
        lines.append(module)
        for one in found:
            lines.append(f"  {one.check}: {_counted(one.num_cases, 'case')}")
            lines += [_wrapped(f"      {text}") for text in (one.about, one.needs) if text]
    return "\n".join(lines)


def listing_last_line(checks: Sequence[ListedCheck], seeds: int) -> str:
    """How many there are."""
    cases = _counted(sum(one.num_cases for one in checks), "case")
    return f"{_counted(len(checks), 'check')}, {cases} with {_counted(seeds, 'seed')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _wrapped(text: str) -> str:
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
