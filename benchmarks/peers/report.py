"""What was measured, for people: a table in Markdown, and bars."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from peers.compare import Failure, Record
from peers.workloads import MEASURES, START


class Cell(NamedTuple):
    """An engine's figures of one measure: medians over the repetitions."""

    measure: str
    engine: str
    bits: int
    rate: float
    low: float
    high: float
    of_floor: float | None
    repetitions: int
    requests: int
    rss: float
    pss: float


def cells(records: Iterable[Record]) -> list[Cell]:
    """One for each engine and measure, in the order of the records."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.measure, record.engine), []).append(record)
    return [_cell(group) for group in groups.values()]


def _cell(group: Sequence[Record]) -> Cell:
    first, rates = group[0], [record.rate for record in group]
    floors = [record.of_floor for record in group if record.of_floor is not None]
    return Cell(
        first.measure,
        first.engine,
        first.bits,
        statistics.median(rates),
        min(rates),
        max(rates),
        statistics.median(floors) if floors else None,
        len(group),
        first.requests,
        max(record.memory["rss"] for record in group),
        max(record.memory["pss"] for record in group),
    )


def over_best_peer(cell: Cell, all_cells: Sequence[Cell]) -> float | None:
    """Jackfield's figure over the best of others of as many bits (of a start: the best over ours); None for others."""
    rivals = [
        other.rate
        for other in all_cells
        if (other.measure, other.bits) == (cell.measure, cell.bits) and not _is_ours(other)
    ]
    if not _is_ours(cell) or not rivals:
        return None
    return min(rivals) / cell.rate if cell.measure == START else cell.rate / max(rivals)


def _is_ours(cell: Cell) -> bool:
    return cell.engine.startswith("Jackfield")


def markdown(records: Sequence[Record], failures: Sequence[Failure]) -> str:
    """A table a measure; below them who is missing, and why."""
    everything = cells(records)
    parts = []
    for measure in dict.fromkeys(cell.measure for cell in everything):
        mine = [cell for cell in everything if cell.measure == measure]
        parts.append(f"### {title(measure)}\n\n{_start_table(mine) if measure == START else _rate_table(mine)}")
    if failures:
        lines = [f"- {failure.measure}, {failure.engine}: {failure.why}" for failure in failures]
        parts.append("### Not measured\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def title(measure: str) -> str:
    """What a measure is called, with its unit."""
    return "start to the first token" if measure == START else f"{MEASURES[measure].title}: {MEASURES[measure].unit}"


def _rate_table(mine: Sequence[Cell]) -> str:
    usual = max(cell.requests for cell in mine)
    rows = []
    for cell in mine:
        floor = "" if cell.of_floor is None else f"{cell.of_floor:.2f}"
        runs = f"{cell.repetitions}" + (f" of {cell.requests} requests" if cell.requests < usual else "")
        rows.append([cell.engine, f"{cell.rate:.1f}", _span(cell), floor, _over(cell, mine), _memory(cell), runs])
    return _table(
        ["engine", "median", "least to most", "of the floor", "over the best peer", "RSS / PSS GB", "runs"], rows
    )


def _start_table(mine: Sequence[Cell]) -> str:
    rows = [
        [cell.engine, f"{cell.rate:.1f}", _span(cell), _over(cell, mine), _memory(cell), str(cell.repetitions)]
        for cell in mine
    ]
    return _table(["engine", "median s", "least to most", "best peer over ours", "RSS / PSS GB", "runs"], rows)


def _span(cell: Cell) -> str:
    return f"{cell.low:.1f} to {cell.high:.1f}"


def _over(cell: Cell, mine: Sequence[Cell]) -> str:
    ratio = over_best_peer(cell, mine)
    return "" if ratio is None else f"{ratio:.2f}"


def _memory(cell: Cell) -> str:
    return f"{cell.rss / 1e9:.1f} / {cell.pss / 1e9:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(records: Sequence[Record], file: Path) -> None:
    """Bars, a panel a measure. ModuleNotFoundError without matplotlib."""
    import matplotlib.pyplot as plt

    everything = cells(records)
    measures = list(dict.fromkeys(cell.measure for cell in everything))
    figure, panels = plt.subplots(1, len(measures), figsize=(4 * len(measures), 4), squeeze=False)
    for panel, measure in zip(panels[0], measures, strict=True):
        mine = [cell for cell in everything if cell.measure == measure][::-1]
        colours = ["tab:orange" if _is_ours(cell) else "tab:gray" for cell in mine]
        panel.barh([cell.engine for cell in mine], [cell.rate for cell in mine], color=colours)
        panel.set_title(title(measure), fontsize=9)
        panel.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(file)
