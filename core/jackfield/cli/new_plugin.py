"""`jackfield new-plugin`: the skeleton of a device's plugin."""

from __future__ import annotations

from pathlib import Path

import click

from jackfield_platforms.new_plugin import NewPluginError, next_steps, write_plugin


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--into",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path(),
    help="The folder to make the plugin's in; the current one unless given.",
)
def command(name: str, into: Path) -> None:
    """Write a complete plugin for a platform NAME into a new folder jackfield-NAME, to install and to change."""
    try:
        folder = write_plugin(name, into)
    except NewPluginError as error:
        raise click.ClickException(str(error)) from error
    click.echo(next_steps(name, folder))
