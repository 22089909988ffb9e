"""What was measured, as bars and lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.cells import Cell, cells
from peers.records import Record
from peers.report import title

COLUMNS = 4
ONLINE_FIGURES = {"first_p50": "first token, p50 ms", "between_p99": "between tokens, p99 ms"}


def plot(records: Sequence[Record], file: Path) -> None:
    """A panel of bars a measure (of a long context: of the bandwidth), and lines over the rates of arrivals.

    ModuleNotFoundError without matplotlib.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    everything = cells(records)
    bars = [name for name in dict.fromkeys(cell.measure for cell in everything) if name != "online"]
    arrivals = [cell for cell in everything if cell.measure == "online"]
    lines = list(ONLINE_FIGURES) if arrivals else []
    count = len(bars) + len(lines)
    rows = -(-count // COLUMNS)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 4 * rows), squeeze=False)
    panels = list(grid.flat)
    for panel, measure in zip(panels, bars, strict=False):
        _bars(panel, [cell for cell in everything if cell.measure == measure][::-1])
        panel.set_title(title(measure), fontsize=9)
    for panel, name in zip(panels[len(bars) : count], lines, strict=True):
        _lines(panel, arrivals, name)
    for panel in panels[count:]:
        panel.set_visible(False)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def _bars(panel: Any, mine: Sequence[Cell]) -> None:
    labels = [f"{cell.engine}, {cell.case}" if cell.case else cell.engine for cell in mine]
    values = [(cell.of_floor or 0.0) if cell.case else cell.rate for cell in mine]
    panel.barh(labels, values, color=["tab:orange" if cell.is_ours else "tab:gray" for cell in mine])
    panel.tick_params(labelsize=7)
    if any(cell.case for cell in mine):
        panel.set_xlabel("K/V read, of the bandwidth", fontsize=8)


def _lines(panel: Any, arrivals: Sequence[Cell], name: str) -> None:
    for engine in dict.fromkeys(cell.engine for cell in arrivals):
        points = sorted((float(cell.case.split()[0]), cell.figures[name]) for cell in arrivals if cell.engine == engine)
        panel.plot(
            *zip(*points, strict=True), marker="o", label=engine, linewidth=2 if engine.startswith("Jack") else 1
        )
    panel.set_yscale("log")
    panel.set_xlabel("requests a second", fontsize=8)
    panel.set_title(ONLINE_FIGURES[name], fontsize=9)
    panel.legend(fontsize=6)
