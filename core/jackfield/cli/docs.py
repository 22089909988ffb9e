"""`jackfield docs`: the pages for who writes a plugin or runs a server, as the wheels carry them."""

from __future__ import annotations

import click

from jackfield_platforms.documentation import NoSuchPageError, contents, page


@click.command("docs")
@click.argument("name", metavar="[PAGE]", required=False)
def command(name: str | None) -> None:
    """Print a PAGE of the documentation, such as "tutorial", in Markdown; without one, the names of all."""
    try:
        click.echo(contents() if name is None else page(name))
    except NoSuchPageError as error:
        raise click.ClickException(str(error)) from error
