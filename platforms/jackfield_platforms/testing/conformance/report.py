"""What a run found, and what there is to run."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["passed", "failed", "not offered"]


class CheckResult(msgspec.Struct, frozen=True):
    """One check of one case. `not offered`: the platform has nothing that the check is about.

    `message` holds a failure's whole traceback, `told` what was wanted and found or what was raised, `raised_at` the
    line that raised it, a plugin's where there is one. Of what is not offered `told` says what it needs.
    """

    check: str  # as pytest names it: module::check[cases]
    outcome: Outcome
    seconds: float = 0.0
    message: str = ""
    told: str = ""
    raised_at: str = ""
    seed: int | None = None

    @property
    def function(self) -> str:
        """The check's name, cases aside; the module's where its cases could not be made."""
        return self.check.partition("[")[0].rpartition("::")[2]

    @property
    def case(self) -> str:
        """The check's name with its case, as `-k` takes it."""
        return self.check.partition("::")[2] or self.check


class ListedCheck(msgspec.Struct, frozen=True):
    """A check that could be run: over how many cases, and what it is about. Without cases, what it needs."""

    module: str
    check: str
    num_cases: int
    about: str
    needs: str = ""


class Report(msgspec.Struct, frozen=True):
    """All results of a run, in order."""

    platform: str
    seeds: int
    results: tuple[CheckResult, ...]

    def count(self, outcome: Outcome) -> int:
        """Results of one kind."""
        return sum(result.outcome == outcome for result in self.results)

    @property
    def conforms(self) -> bool:
        """Whether something was checked and nothing failed."""
        return self.count("passed") > 0 and self.count("failed") == 0

    @property
    def last_line(self) -> str:
        """What the commands print at the end."""
        return f"{self.count('passed')} passed, {self.count('failed')} failed"

    def failed_checks(self) -> set[str]:
        """Names of the check functions that failed, cases aside."""
        return {result.function for result in self.results if result.outcome == "failed"}

    def to_json(self) -> bytes:
        """The report with its counts."""
        counts = {outcome.replace(" ", "_"): self.count(outcome) for outcome in ("passed", "failed", "not offered")}
        return msgspec.json.format(msgspec.json.encode({**counts, **msgspec.structs.asdict(self)}))
