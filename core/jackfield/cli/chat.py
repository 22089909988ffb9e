"""`jackfield chat`: a conversation in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click

from jackfield.cli.client import API_KEY, URL, Client
from jackfield.cli.engine_options import engine_parameters, take_engine
from jackfield.cli.sampling_options import as_request, sampling_parameters, take_sampling
from jackfield.config.options import EngineOptions
from jackfield.sampling_params import SamplingParams

Messages = list[dict[str, str]]
Answer = Callable[[Messages], Iterator[str]]  # the pieces of the assistant's next message


@click.command(
    "chat",
    params=[
        *engine_parameters(positional_model=True),
        *sampling_parameters(max_tokens=None),
        URL,
        API_KEY,
        click.Option(["--system"], help="What the model is told before the conversation."),
    ],
)
def command(url: str | None, api_key: str | None, system: str | None, **values: Any) -> None:
    """Talk with MODEL (a folder; the embedded model without one). An empty line or Ctrl-D ends it."""
    sampling = take_sampling(values)
    answer = _served(Client(url, api_key), sampling) if url else _in_process(take_engine(values), sampling)
    _converse(answer, [{"role": "system", "content": system}] if system else [])


def _converse(answer: Answer, messages: Messages) -> None:
    while said := _read():
        messages.append({"role": "user", "content": said})
        pieces = []
        for piece in answer(messages):
            click.echo(piece, nl=False)
            pieces.append(piece)
        click.echo()
        messages.append({"role": "assistant", "content": "".join(pieces)})


def _read() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        click.echo()
        return ""


def _served(client: Client, sampling: SamplingParams) -> Answer:
    def answer(messages: Messages) -> Iterator[str]:
        for choice in client.stream("chat/completions", {"messages": messages, **as_request(sampling)}):
            yield choice["delta"].get("content") or ""

    return answer


def _in_process(engine: EngineOptions, sampling: SamplingParams) -> Answer:
    import msgspec

    from jackfield.llm import LLM

    llm = LLM(**msgspec.structs.asdict(engine))
    return lambda messages: llm.stream_chat(messages, sampling)
