"""The kit as a pytest plugin: an object that carries what is under test and how often, and keeps the results."""

from __future__ import annotations

from typing import Any

from jackfield_platforms.testing.conformance.arguments import ARGUMENTS
from jackfield_platforms.testing.conformance.report import CheckResult, Outcome, Report
from jackfield_platforms.testing.conformance.subject import Subject


class KitPlugin:
    """Hands cases to checks by the names of their arguments; `seed` is each of `seeds` numbers."""

    def __init__(self, subject: Subject, seeds: int) -> None:
        self._subject, self._seeds = subject, seeds
        self._cases: dict[str, list[tuple[str, Any]]] = {}
        self._results: list[CheckResult] = []

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
            self._cases[name] = list(ARGUMENTS[name](self._subject))
        return self._cases[name]

    def pytest_collectreport(self, report: Any) -> None:
        """pytest's hook: a family whose cases could not be made has failed."""
        if report.failed:
            self._keep(report.nodeid, "failed", 0.0, report.longreprtext)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """pytest's hook: how a check went. An argument without cases makes pytest skip it."""
        if report.skipped:
            self._keep(report.nodeid, "not offered", 0.0, "")
        elif report.failed:
            self._keep(report.nodeid, "failed", report.duration, report.longreprtext)
        elif report.when == "call":
            self._keep(report.nodeid, "passed", report.duration, "")

    def _keep(self, node: str, outcome: Outcome, seconds: float, message: str) -> None:
        file, separator, check = node.partition("::")
        name = f"{file.rpartition('/')[2]}{separator}{check}"
        self._results.append(CheckResult(name, outcome, seconds, message))
