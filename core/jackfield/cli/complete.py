"""`jackfield complete`: one prompt in, its continuation out."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from jackfield.cli.client import API_KEY, URL, Client
from jackfield.cli.engine_options import engine_parameters, take_engine
from jackfield.cli.sampling_options import as_request, sampling_parameters, take_sampling


@click.command(
    "complete",
    params=[
        click.Argument(["prompt"], required=False),
        *engine_parameters(positional_model=False),
        *sampling_parameters(max_tokens=64),
        URL,
        API_KEY,
    ],
)
def command(prompt: str | None, url: str | None, api_key: str | None, **values: Any) -> None:
    """Continue PROMPT, or standard input when it is missing or "-"."""
    sampling = take_sampling(values)
    text = sys.stdin.read() if prompt in (None, "-") else prompt
    if url is not None:
        for choice in Client(url, api_key).stream("completions", {"prompt": text, **as_request(sampling)}):
            click.echo(choice["text"], nl=False)
        click.echo()
        return
    from jackfield.llm import LLM

    llm = LLM(**msgspec.structs.asdict(take_engine(values)))
    for piece in llm.stream(text, sampling):
        click.echo(piece, nl=False)
    click.echo()
