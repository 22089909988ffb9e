"""How `chat` and `complete` let a person steer sampling: the fields of `SamplingParams` that one types by hand."""

from __future__ import annotations

from typing import Any

import click

from jackfield.cli.options import Help, options_of
from jackfield.sampling_params import SamplingParams

HELPS = {
    "temperature": Help("0 is greedy."),
    "top_p": Help("Keep the likeliest tokens up to this probability."),
    "top_k": Help("Keep this many of the likeliest tokens; 0 keeps all."),
    "min_p": Help("Keep tokens at least this likely relative to the likeliest."),
    "max_tokens": Help("Tokens of the answer at most."),
}


def sampling_parameters(max_tokens: int | None) -> list[click.Parameter]:
    """The options, with a `--max-tokens` of the command's own; None: to the end of the context."""
    options = options_of(SamplingParams, HELPS)
    for option in options:
        if option.name == "max_tokens":
            option.default = max_tokens
    return options


def take_sampling(values: dict[str, Any]) -> SamplingParams:
    """The sampling parameters out of a command's values; what is out of range is a usage error."""
    try:
        return SamplingParams(**{name: values.pop(name) for name in HELPS})
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def as_request(sampling: SamplingParams) -> dict[str, Any]:
    """The same as fields of an OpenAI request."""
    return {name: value for name in HELPS if (value := getattr(sampling, name)) is not None}
