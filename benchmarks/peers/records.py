"""What was measured, and what an earlier run into the same folder left: a run that was cut off goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Record(NamedTuple):
    """One turn of one engine. `of_floor` is the least time possible over the time that it took."""

    measure: str
    engine: str
    bits: int
    repetition: int
    rate: float
    unit: str
    seconds: tuple[float, ...]  # of each group of requests
    bandwidth: float  # bytes a second, mean of before and after
    of_floor: float | None
    requests: int
    load: float  # of the machine, over the last minute
    memory: Mapping[str, int]
    case: str = ""  # of a measure that has several: a rate of arrivals, a context
    figures: Mapping[str, float] = {}  # what else it says
    streams: Sequence[Sequence[float]] = ()  # instants: a request's arrival and its events


class Failure(NamedTuple):
    """An engine that is not in a table, and its reason."""

    measure: str
    engine: str
    why: str


class Results:
    """All of a folder. ValueError when what lies there is of another model."""

    def __init__(self, folder: Path, model: str) -> None:
        self._file, self._model = folder / "results.json", model
        self.records: list[Record] = []
        self.failures: list[Failure] = []
        self.settings: dict[str, dict[str, Any]] = {}  # by engine and measure
        self.machine: dict[str, Any] = {}
        if self._file.exists():
            self._load(json.loads(self._file.read_text()))
        folder.mkdir(parents=True, exist_ok=True)

    def _load(self, found: Mapping[str, Any]) -> None:
        if found["model"] != self._model:
            raise ValueError(f"wanted results of {self._model} in {self._file}; found {found['model']}; choose another")
        self.records = [Record(**each) for each in found["records"]]
        self.failures = [Failure(**each) for each in found["failures"]]
        self.settings, self.machine = found["settings"], found["machine"]

    def retry(self, measures: Sequence[str]) -> None:
        """Forget failures of these measures and of installing."""
        self.failures = [each for each in self.failures if each.measure not in (*measures, "install")]

    def add(self, record: Record) -> None:
        """Keep it, and say it."""
        self.records.append(record)
        self.write()
        floor = "" if record.of_floor is None else f", {record.of_floor:.2f} of the floor"
        case = f", {record.case}" if record.case else ""
        print(
            f"{record.measure} {record.repetition}: {record.engine}{case}: {record.rate:.2f} {record.unit}{floor} "
            f"({record.bandwidth / 1e9:.1f} GB/s, load {record.load:.1f})",
            flush=True,
        )

    def fail(self, measure: str, engine: str, why: str) -> None:
        """Note why an engine has no figure, and say it."""
        self.failures.append(Failure(measure, engine, why))
        self.write()
        print(f"{measure}: {engine} is left out: {why}", flush=True)

    def has_failed(self, measure: str, engine: str) -> bool:
        """Whether there is no hope of a figure."""
        return any(failure.measure in (measure, "install") and failure.engine == engine for failure in self.failures)

    def has(self, measure: str, engine: str, repetition: int, case: str = "") -> bool:
        """Whether a turn was measured."""
        return any(
            (each.measure, each.engine, each.repetition, each.case) == (measure, engine, repetition, case)
            for each in self.records
        )

    def write(self) -> None:
        """Whole or not at all."""
        result = {
            "model": self._model,
            "machine": self.machine,
            "settings": self.settings,
            "failures": [failure._asdict() for failure in self.failures],
            "records": [record._asdict() for record in self.records],
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(result))
        part.rename(self._file)
