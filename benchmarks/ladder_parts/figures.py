"""What one ladder makes of a run, as a row of a table and as a point of a plot."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from jackfield.cli.scatter import scatter
from jackfield_platforms.buckets.static_plan import StaticBuckets
from jackfield_platforms.buckets.trace import Trace
from jackfield_platforms.buckets.usage import Usage

_HEADS = ("ladder", "graphs", "warm-up", "used", "launches", "padding of tokens", "padding of blocks", "misses")
_WIDTH, _HEIGHT, _TITLE = 640, 400, 34  # pixels of a panel


class LadderFigures(msgspec.Struct, frozen=True):
    """One ladder over one run of a style."""

    ladder: str
    graphs: int  # planned sizes of a launch
    warm_up: int  # what is captured before the first request: those, and the numbers of rows that are sampled
    used: int  # of the graphs
    launches: int
    token_waste: float  # share of the tokens that ran
    block_waste: float | None  # share of the blocks that were read; None: blocks are no dimension
    misses: int


def figures(ladder: str, plan: StaticBuckets, trace: Trace) -> LadderFigures:
    """Place every step of the run."""
    planned, usage = len(plan.buckets()), Usage()
    real = padded = 0
    for step in trace.steps:
        placements = plan.place(step)
        usage.count(step, placements)
        real += int((-(-step.kv_len // plan.sizes.block_size)).sum())
        padded += sum(one.bucket.num_rows * one.bucket.max_blocks for one in placements)
    return LadderFigures(
        ladder=ladder,
        graphs=planned,
        warm_up=planned + len(plan.sampling_sizes()),
        used=len(usage.by_bucket),
        launches=usage.launches,
        token_waste=usage.waste,
        block_waste=1 - real / padded if padded else None,
        misses=usage.misses,
    )


def table(rows: Sequence[LadderFigures]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(_HEADS) + " |", "|" + "---|" * len(_HEADS)]
    for row in rows:
        blocks = "" if row.block_waste is None else f"{row.block_waste:.1%}"
        cells = (
            row.ladder, f"{row.graphs:,}", f"{row.warm_up:,}", f"{row.used:,}", f"{row.launches:,}",
            f"{row.token_waste:.1%}", blocks, str(row.misses),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines).replace("%", " %")


def drawing(panels: Sequence[tuple[str, Sequence[LadderFigures]]]) -> str:
    """An SVG text: a panel a style, graphs against the share of tokens that is padding."""
    parts = []
    for place, (title, rows) in enumerate(panels):
        top = place * (_HEIGHT + _TITLE)
        points = [(row.ladder, float(row.graphs), 100 * row.token_waste) for row in rows]
        panel = scatter(points, "graphs", "padding, % of tokens")
        placed = f'<svg x="0" y="{top + _TITLE}" width="{_WIDTH}" height="{_HEIGHT}" '
        parts.append(f'<text x="90" y="{top + 26}" font-weight="bold">{title}</text>')
        parts.append(re.sub(r"<svg xmlns=\S+ ", placed, panel, count=1))
    height = len(panels) * (_HEIGHT + _TITLE)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif"'
    background = f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([f'{head} font-size="13">', background, *parts, "</svg>", ""])
