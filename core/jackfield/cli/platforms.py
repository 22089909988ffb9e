"""`jackfield platforms`: which plugins are installed, and which one a launch would take."""

from __future__ import annotations

import click
import msgspec

from jackfield.cli.report import JSON, platform_table, print_json
from jackfield_platforms.discovery import Found
from jackfield_platforms.selection import PlatformError, select, survey, wanted_platform


class Platforms(msgspec.Struct, frozen=True):
    """Every installed plugin with what its probe said, and the choice or why there is none."""

    platforms: list[Found]
    selected: str | None
    error: str | None


def judged(found: list[Found], wanted: str | None) -> Platforms:
    """What a launch would select among these."""
    try:
        return Platforms(found, select(found, wanted_platform(wanted)).name, None)
    except PlatformError as error:
        return Platforms(found, None, str(error))


@click.command(
    "platforms", params=[click.Option(["--platform"], help="Ask and select as a launch with it does."), JSON]
)
def command(platform: str | None, as_json: bool) -> None:
    """List the installed plugins and whether their devices can be used."""
    looked = judged(survey(platform), platform)
    if as_json:
        print_json(looked)
        return
    platform_table(looked.platforms, looked.selected)
    if looked.error:
        click.echo(looked.error, err=True)
