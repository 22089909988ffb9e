"""`jackfield bench`: measurements that need no other program. The measuring itself is in `jackfield.bench`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from jackfield.cli.engine_options import engine_parameters, take_engine
from jackfield.cli.report import JSON, print_facts, print_json


@click.group("bench")
def command() -> None:
    """Measure the engine."""


def _count(name: str, default: int, text: str) -> click.Option:
    return click.Option([name], type=click.IntRange(min=1), default=default, show_default=True, help=text)


@command.command(
    "offline",
    params=[
        *engine_parameters(positional_model=True),
        _count("--num-prompts", 64, "Prompts, all given at once."),
        _count("--input-len", 220, "Tokens of each prompt on average."),
        _count("--output-len", 190, "Tokens of each answer on average."),
        JSON,
    ],
)
def offline(num_prompts: int, input_len: int, output_len: int, as_json: bool, **values: Any) -> None:
    """Measure the throughput of prompts that are all there from the start."""
    from jackfield.bench.offline import run

    _report(run(take_engine(values), num_prompts=num_prompts, input_len=input_len, output_len=output_len), as_json)


@command.command(
    "host",
    params=[_count("--num-seqs", 64, "Sequences that run at once."), _count("--num-steps", 200, "Steps."), JSON],
)
def host(num_seqs: int, num_steps: int, as_json: bool) -> None:
    """Measure what a step costs beside the model: scheduling, inputs, sampling parameters, text."""
    from jackfield.bench.host import run

    _report(run(num_seqs=num_seqs, num_steps=num_steps), as_json)


def _report(result: msgspec.Struct, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        print_facts(msgspec.structs.asdict(result))
