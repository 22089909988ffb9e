"""Medians over the repetitions, and how engines compare."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from peers.records import Record
from peers.workloads import START

OURS = "Jackfield"
STATIC = "transformers"  # whose batches are static


class Cell(NamedTuple):
    """An engine's figures of one case of one measure: medians over the repetitions."""

    measure: str
    case: str
    engine: str
    bits: int
    rate: float
    low: float
    high: float
    of_floor: float | None
    repetitions: int
    requests: int
    memory: Mapping[str, int]  # the most of all repetitions
    figures: Mapping[str, float]

    @property
    def is_ours(self) -> bool:
        """Whether it is Jackfield's."""
        return self.engine.startswith(OURS)


def cells(records: Iterable[Record]) -> list[Cell]:
    """One for each engine, measure and case, in the order of the records."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.measure, record.case, record.engine), []).append(record)
    return [_cell(group) for group in groups.values()]


def _cell(group: Sequence[Record]) -> Cell:
    first, rates = group[0], [record.rate for record in group]
    floors = [record.of_floor for record in group if record.of_floor is not None]
    return Cell(
        measure=first.measure,
        case=first.case,
        engine=first.engine,
        bits=first.bits,
        rate=statistics.median(rates),
        low=min(rates),
        high=max(rates),
        of_floor=statistics.median(floors) if floors else None,
        repetitions=len(group),
        requests=first.requests,
        memory={name: max(record.memory.get(name, 0) for record in group) for name in ("rss", "pss", "peak")},
        figures={
            name: statistics.median(record.figures[name] for record in group if name in record.figures)
            for name in dict.fromkeys(name for record in group for name in record.figures)
        },
    )


def best_rival(cell: Cell, everything: Sequence[Cell]) -> Cell | None:
    """Of the others with as many bits, the best in the same case (of a start: the soonest); None for them."""
    rivals = [
        other
        for other in everything
        if (other.measure, other.case, other.bits) == (cell.measure, cell.case, cell.bits) and not other.is_ours
    ]
    if not cell.is_ours or not rivals:
        return None
    return min(rivals, key=lambda each: each.rate if cell.measure == START else -each.rate)


def over_best_peer(cell: Cell, everything: Sequence[Cell]) -> float | None:
    """Jackfield's figure over the best rival's (of a start: the rival's over ours)."""
    rival = best_rival(cell, everything)
    if rival is None:
        return None
    return rival.rate / cell.rate if cell.measure == START else cell.rate / rival.rate


def over_same(cell: Cell, measure: str, everything: Sequence[Cell]) -> float | None:
    """A cell over the same engine's in another measure: what a cache of prefixes brings."""
    others = [other.rate for other in everything if (other.measure, other.engine) == (measure, cell.engine)]
    return cell.rate / others[0] if others else None


def over_static(cell: Cell, everything: Sequence[Cell]) -> float | None:
    """A cell over that of static batches with as many bits; None for themselves."""
    others = [
        other.rate
        for other in everything
        if (other.measure, other.bits) == (cell.measure, cell.bits) and other.engine.startswith(STATIC)
    ]
    return cell.rate / others[0] if others and not cell.engine.startswith(STATIC) else None
