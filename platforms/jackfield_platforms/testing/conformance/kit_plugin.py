"""The kit as a pytest plugin: an object that carries what is under test and how often, and keeps the results."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import pluggy

from jackfield_platforms.testing.conformance.arguments import ARGUMENTS
from jackfield_platforms.testing.conformance.mismatch import Mismatch
from jackfield_platforms.testing.conformance.report import CheckResult, ListedCheck, Report
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.source_line import raising_line

_hook = pluggy.HookimplMarker("pytest")  # pytest's own marker, without pytest


class KitPlugin:
    """Hands cases to checks by the names of their arguments; `seed` is each of `seeds` numbers.

    `match` is the name of one check with its case, or an expression as pytest's `-k`.
    """

    def __init__(self, subject: Subject, seeds: int, match: str = "") -> None:
        self._subject, self._seeds, self._match = subject, seeds, match
        self._cases: dict[str, list[tuple[str, Any]]] = {}
        self._results: list[CheckResult] = []
        self._not_made: Exception | None = None
        self.names: set[str] = set()  # of all check functions, chosen or not
        self.listed: tuple[ListedCheck, ...] = ()  # those that were chosen

    @property
    def report(self) -> Report:
        """What has been found so far."""
        return Report(self._subject.name, self._seeds, tuple(self._results))

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """pytest's hook: the cases of each argument."""
        for name in metafunc.fixturenames:
            if name == "seed":
                metafunc.parametrize("seed", range(self._seeds))
            elif name in ARGUMENTS:
                cases = self._cases_of(name)
                metafunc.parametrize(name, [case for _, case in cases], ids=[label for label, _ in cases])

    def _cases_of(self, name: str) -> list[tuple[str, Any]]:
        if name not in self._cases:
            try:
                self._cases[name] = list(ARGUMENTS[name].cases(self._subject))
            except Exception as error:
                self._not_made = error
                raise
        return self._cases[name]

    @_hook(tryfirst=True)
    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        """pytest's hook: one case by its name, which may hold what an expression may not, or what pytest matches."""
        self.names = {item.originalname for item in items}
        wanted = self._match.rpartition("::")[2] if "[" in self._match else ""
        alone = [item for item in items if item.name == wanted]
        if alone:
            items[:] = alone
        else:
            config.option.keyword = self._match

    def pytest_collection_finish(self, session: Any) -> None:
        """pytest's hook: what was chosen."""
        found: dict[Any, list[Any]] = {}
        for item in session.items:
            found.setdefault(item.function, []).append(item)
        self.listed = tuple(self._listed(function, items) for function, items in found.items())

    def _listed(self, function: Any, items: list[Any]) -> ListedCheck:
        about = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
        needs = self._needs(items[0].fixturenames)
        return ListedCheck(items[0].path.name, items[0].originalname, 0 if needs else len(items), about, needs)

    def _needs(self, arguments: Iterable[str]) -> str:
        """What the platform would have if each of these arguments had cases."""
        lacking = (name for name in arguments if name in ARGUMENTS and not self._cases_of(name))
        return "; ".join(f"no case of `{name}`, which takes {ARGUMENTS[name].needs}" for name in lacking)

    def pytest_collectreport(self, report: Any) -> None:
        """pytest's hook: a family whose cases could not be made has failed."""
        if report.failed:
            text, error, self._not_made = report.longreprtext, self._not_made, None
            told = text if error is None else _told(error)
            raised_at = "" if error is None else raising_line(error.__traceback__)
            name = report.nodeid.rpartition("/")[2]
            self._results.append(CheckResult(name, "failed", message=text, told=told, raised_at=raised_at))

    @_hook(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
        """pytest's hook: how a check went. An argument without cases makes pytest skip it."""
        report = yield
        name = f"{item.path.name}::{item.name}"
        if report.skipped:
            reason = self._needs(item.fixturenames) or str(call.excinfo.value)
            self._results.append(CheckResult(name, "not offered", told=reason))
        elif report.failed:
            error, text, seed = call.excinfo.value, report.longreprtext, item.funcargs.get("seed")
            raised_at = "" if isinstance(error, Mismatch) else raising_line(error.__traceback__)
            found = CheckResult(name, "failed", report.duration, text, _told(error), raised_at, seed)
            self._results.append(found)
        elif report.when == "call":
            self._results.append(CheckResult(name, "passed", report.duration))
        return report


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, Mismatch) else f"{type(error).__name__}: {error}"
