"""`jackfield serve`: the OpenAI-compatible server."""

from __future__ import annotations

import logging
from typing import Any

import click

from jackfield.cli.engine_options import engine_parameters, take_engine
from jackfield.cli.options import BYTES, Help, options_of, take
from jackfield.server.options import ServerOptions

HELPS = {
    "host": Help("Address to listen on."),
    "port": Help("Port to listen on.", kind=click.IntRange(0, 65535)),
    "served_model_name": Help("What clients call the model; the folder's name unless given."),
    "lora_modules": Help("A LoRA adapter, as name=folder; requests name it as their model. Give it once an adapter."),
    "api_key": Help("Clients must send it as a bearer token.", envvar="JACKFIELD_API_KEY"),
    "max_waiting": Help("Requests that may wait; further ones are answered 429."),
    "drain_seconds": Help("How long running requests may take after SIGTERM."),
    "max_body_bytes": Help("The largest request, such as 32M.", kind=BYTES),
}


@click.command("serve", params=[*engine_parameters(positional_model=True), *options_of(ServerOptions, HELPS)])
def command(**values: Any) -> None:
    """Serve MODEL (a folder; the embedded model without one) over an OpenAI-compatible API."""
    engine, server = take_engine(values), take(ServerOptions, values)
    from jackfield.server.run import serve

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    serve(engine, server)
