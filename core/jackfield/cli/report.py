"""How commands print: JSON for machines, tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from jackfield_platforms.discovery import Found

JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON, for machines.")


def print_json(value: Any) -> None:
    """Print a struct, or anything else that JSON can hold."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one a line, values below each other."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def platform_table(found: Sequence[Found], selected: str | None) -> None:
    """Print the plugins as a table; the selected one is marked."""
    from rich.console import Console
    from rich.table import Table

    if not found:
        return
    table = Table("", "plugin", "distribution", "SDK", "state", "score", "devices", "probed in", "why", box=None)
    for one in found:
        version = "?" if one.api_version is None else ".".join(map(str, one.api_version))
        counts = (str(one.score), str(one.devices), f"{one.seconds:.2f} s")
        dist = f"{one.dist} {one.dist_version}"
        table.add_row("*" if one.name == selected else "", one.name, dist, version, one.state, *counts, one.why)
    Console().print(table)
