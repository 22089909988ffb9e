"""What was measured, for people: tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peers.cells import Cell, best_rival, cells, over_best_peer, over_same, over_static
from peers.records import Failure, Record
from peers.workloads import MEASURES, START

TITLES = {
    START: "start to the first token: s",
    "online": "48 requests with Poisson arrivals: ms",
    "long": "one stream behind a long context",
    "imported": "the same, K/V imported rather than computed",
}
SUMMED_UP = ("decode", "prefill", "batch", "mix", "prefix", "prefix-warm", START)


def markdown(
    records: Sequence[Record], failures: Sequence[Failure], settings: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """A summary and a table a measure; below them who is missing and why, and the settings."""
    everything = cells(records)
    parts = [f"### In short\n\n{summary}"] if (summary := _summary(everything)) else []
    for measure in dict.fromkeys(cell.measure for cell in everything):
        parts.append(f"### {title(measure)}\n\n{_table_of(measure, everything)}")
    if failures:
        lines = [f"- {failure.measure}, {failure.engine}: {failure.why}" for failure in failures]
        parts.append("### Not measured\n\n" + "\n".join(lines))
    if settings:
        parts.append(f"### Settings\n\n{_settings_table(settings)}")
    return "\n\n".join(parts) + "\n"


def title(measure: str) -> str:
    """What a measure is called, with its unit."""
    return TITLES.get(measure) or f"{MEASURES[measure].title}: {MEASURES[measure].unit}"


def _table_of(measure: str, everything: Sequence[Cell]) -> str:
    mine = [cell for cell in everything if cell.measure == measure]
    if measure == START:
        return _start_table(mine)
    if measure == "online":
        return _online_table(mine)
    return _context_table(mine) if measure in TITLES else _rate_table(mine, everything)


def _summary(everything: Sequence[Cell]) -> str:
    """Ours beside the best other; only where there are both."""
    rows = []
    for cell in everything:
        rival = best_rival(cell, everything)
        if cell.measure in SUMMED_UP and rival is not None:
            both = [f"{cell.rate:.1f}", f"{rival.rate:.1f} ({rival.engine})", _ratio(over_best_peer(cell, everything))]
            rows.append([title(cell.measure), cell.engine, *both, _ratio(cell.of_floor)])
    return _table(["measure", "engine", "ours", "the best other", "ratio", "of the floor"], rows) if rows else ""


def _rate_table(mine: Sequence[Cell], everything: Sequence[Cell]) -> str:
    usual = max(cell.requests for cell in mine)
    more = {
        "over unshared": lambda cell: (
            over_same(cell, "unshared", everything) if cell.measure.startswith("prefix") else None
        ),
        "over static batches": lambda cell: over_static(cell, mine) if cell.measure == "mix" else None,
    }
    columns = {name: [_ratio(tell(cell)) for cell in mine] for name, tell in more.items()}
    columns = {name: column for name, column in columns.items() if any(column)}
    rows = []
    for index, cell in enumerate(mine):
        runs = f"{cell.repetitions}" + (f" of {cell.requests} requests" if cell.requests < usual else "")
        row = [cell.engine, f"{cell.rate:.1f}", _span(cell), _ratio(cell.of_floor), _ratio(over_best_peer(cell, mine))]
        rows.append([*row, *(column[index] for column in columns.values()), _memory(cell), runs])
    head = ["engine", "median", "least to most", "of the floor", "over the best peer", *columns, "RSS / PSS GB", "runs"]
    return _table(head, rows)


def _start_table(mine: Sequence[Cell]) -> str:
    rows = [
        [
            cell.engine,
            f"{cell.rate:.1f}",
            _span(cell),
            _ratio(over_best_peer(cell, mine)),
            _memory(cell),
            f"{cell.memory['peak'] / 1e9:.1f}",
            str(cell.repetitions),
        ]
        for cell in mine
    ]
    head = ["engine", "median s", "least to most", "best peer over ours", "RSS / PSS GB", "peak RSS GB", "runs"]
    return _table(head, rows)


def _online_table(mine: Sequence[Cell]) -> str:
    rows = []
    for case in sorted({cell.case for cell in mine}, key=lambda case: float(case.split()[0])):
        for cell in (each for each in mine if each.case == case):
            found = cell.figures
            first, between = (
                f"{found[f'{name}_p50']:.0f} / {found[f'{name}_p99']:.0f}" for name in ("first", "between")
            )
            events = f"{found['tokens_per_event']:.2f}"
            rows.append([case, cell.engine, first, between, f"{cell.rate:.1f}", events, str(cell.repetitions)])
    head = [
        "rate",
        "engine",
        "first token p50 / p99",
        "between tokens p50 / p99",
        "out tok/s",
        "tokens an event",
        "runs",
    ]
    return _table(head, rows)


def _context_table(mine: Sequence[Cell]) -> str:
    rows = []
    for cell in sorted(mine, key=lambda cell: int(cell.case)):
        found = cell.figures
        times = [f"{1e3 * found[name]:.1f}" for name in ("token_seconds", "short_seconds", "attention_seconds")]
        reads = f"{found['kv_bytes_per_second'] / 1e9:.1f}" if "kv_bytes_per_second" in found else ""
        rest = [reads, _ratio(cell.of_floor), f"{found['first_seconds']:.1f}", str(cell.repetitions)]
        rows.append([cell.case, cell.engine, *times, *rest])
    head = ["context", "engine", "ms a token", "behind 128", "attention ms", "K/V GB/s", "of the bandwidth"]
    return _table([*head, "first token s", "runs"], rows)


def _settings_table(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each different set of an engine's settings."""
    rows = []
    for engine, by_measure in settings.items():
        groups: dict[str, list[str]] = {}
        for measure, found in by_measure.items():
            told = ", ".join(f"{name}: {value}" for name, value in found.items()).replace("|", "\\|")
            groups.setdefault(told, []).append(measure)
        rows += [[engine, ", ".join(measures), told] for told, measures in groups.items()]
    return _table(["engine", "measures", "settings"], rows)


def _span(cell: Cell) -> str:
    return f"{cell.low:.1f} to {cell.high:.1f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _memory(cell: Cell) -> str:
    return f"{cell.memory['rss'] / 1e9:.1f} / {cell.memory['pss'] / 1e9:.1f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
