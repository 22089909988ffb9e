"""The command `jackfield`: names and one-line descriptions of the commands, each imported when it is called.

Click rather than Typer: it starts in half the time, and options may be built from a struct's fields (see `options`).
"""

from __future__ import annotations

import importlib
import sys

import click

from jackfield.version import __version__

COMMANDS = {
    "serve": "Serve a model over an OpenAI-compatible API.",
    "chat": "Talk with a model, in this process or on a server.",
    "complete": "Continue one prompt, in this process or on a server.",
    "platforms": "List the installed plugins and whether their devices can be used.",
    "doctor": "Tell what a bug report needs: versions, plugins with tracebacks, memory, backends.",
    "explain": "Tell which implementation serves each op, attention layer and linear layer of a model, and why.",
    "buckets": "Compare ladders of bucket sizes over the steps of a recorded run.",
    "conformance": "Check that a platform does what the SDK asks of it.",
    "docs": "Print a page of the documentation, such as the tutorial for who writes a plugin.",
    "new-plugin": "Write the skeleton of a plugin for a device.",
    "bench": "Measure the engine.",
}


class Commands(click.Group):
    """A group whose commands live in modules of their own: `new-plugin` is `jackfield.cli.new_plugin.command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"jackfield.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {close[0]!r}?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, message="jackfield %(version)s")
def jackfield() -> None:
    """Serve large language models on any device that has a plugin."""


def main() -> None:
    """Run the command line. What Jackfield itself raises is a message to people; anything else is a bug, and traced."""
    try:
        jackfield(prog_name="jackfield")
    except Exception as error:
        if type(error).__module__.partition(".")[0].partition("_")[0] != "jackfield":
            raise
        click.echo(f"jackfield: {error}", err=True)
        sys.exit(1)
