"""How commands print: JSON for machines, tables for people."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from jackfield_platforms.discovery import Found

PLATFORM_HEADINGS = ("plugin", "state", "score", "devices", "SDK", "time", "distribution")
_NUMBERS = range(2, 6)  # the columns that are aligned on the right
_INDENT = " " * 4

JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, for machines.")


def print_json(value: Any) -> None:
    """Print a struct, or anything else that JSON can hold."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line, values below each other."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print an empty line and a table; cells wrap between words but for the first column's. No text is markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    click.echo()
    Console().print(table)


def platform_table(found: Sequence[Found], selected: str | None) -> None:
    """Print the plugins, the selected one marked; below each what its probe said, wrapped to the terminal's width."""
    if not found:
        return
    rows = [_platform_row(one) for one in found]
    widths = [max(map(len, column)) for column in zip(PLATFORM_HEADINGS, *rows, strict=True)]
    click.echo(_platform_line("", PLATFORM_HEADINGS, widths))
    for one, row in zip(found, rows, strict=True):
        click.echo(_platform_line("*" if one.name == selected else "", row, widths))
        if one.why:
            click.echo(textwrap.fill(one.why, _columns(), initial_indent=_INDENT, subsequent_indent=_INDENT))


def _platform_row(one: Found) -> tuple[str, ...]:
    dist = f"{one.dist} {one.dist_version}"
    if one.state == "not asked":
        return (one.name, one.standing, *"----", dist)
    version = "?" if one.api_version is None else ".".join(map(str, one.api_version))
    return (one.name, one.standing, str(one.score), str(one.devices), version, f"{one.seconds:.2f} s", dist)


def _platform_line(mark: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    name, state, *numbers, dist = (
        cell.rjust(width) if place in _NUMBERS else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([f"{mark:<1} {name}", state, " ".join(numbers), dist]).rstrip()


def _columns() -> int:
    return shutil.get_terminal_size().columns
