"""Requests that arrive one after another, each answered as a stream. Runs in every engine's environment: only the
standard library.

One process and one event loop ask a server over loopback. An event is not decoded when it comes, only its instant is
noted: the engine wants the cores.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: {length}\r\nConnection: close\r\n\r\n"
)
LINE_BYTES = 1 << 24  # longest line of an answer
LAST_CHUNK = b"0\r\n"  # of a chunked body, for a server that keeps the connection


class Arrival(NamedTuple):
    """A request, and when it comes: in seconds from the beginning."""

    at: float
    ids: list[int]
    count: int


class Stream(NamedTuple):
    """An answer: the instants of its events, on the clock of the arrivals, and how many tokens they brought."""

    events: list[float]
    tokens: int


def ask_all(
    port: int, path: str, body: Callable[[list[int], int], dict[str, Any]], arrivals: Sequence[Arrival]
) -> list[Stream]:
    """Send each request when it is due; RuntimeError with what the server said of one that it refused."""
    payloads = [json.dumps(body(arrival.ids, arrival.count)).encode() for arrival in arrivals]
    return asyncio.run(_ask_all(port, path, payloads, arrivals))


async def _ask_all(port: int, path: str, payloads: Sequence[bytes], arrivals: Sequence[Arrival]) -> list[Stream]:
    start = time.perf_counter()
    asked = [_ask(port, path, payload, arrival.at, start) for payload, arrival in zip(payloads, arrivals, strict=True)]
    return list(await asyncio.gather(*asked))


async def _ask(port: int, path: str, payload: bytes, at: float, start: float) -> Stream:
    await asyncio.sleep(start + at - time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LINE_BYTES)
    try:
        writer.write(HEAD.format(path=path, length=len(payload)).encode() + payload)
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{status.decode().strip()}: {(await reader.read(LINE_BYTES)).decode()[-300:]}")
        return await _read(reader, start)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader, start: float) -> Stream:
    events, last = [], b""
    while (line := await reader.readline()) not in (b"", LAST_CHUNK):
        if line.startswith(b"data: {"):
            last = line
            if carries_token(line):
                events.append(time.perf_counter() - start)
    return Stream(events, answered(last))


def carries_token(line: bytes) -> bool:
    """Whether an event brings a token, rather than the end's counts (OpenAI's usage; llama.cpp's last event)."""
    return b'"choices":[]' not in line and b'"stop":true' not in line


def answered(last: bytes) -> int:
    """How many tokens the last event says that there were."""
    try:
        return counted(json.loads(last.removeprefix(b"data: ")))
    except (ValueError, KeyError, TypeError):
        raise RuntimeError(f"wanted a count of tokens at the end of a stream; got {last[:300].decode()!r}") from None


def counted(message: dict[str, Any]) -> int:
    """The tokens of an answer, as llama.cpp or OpenAI's protocol tell them."""
    return int(message["tokens_predicted"] if "tokens_predicted" in message else message["usage"]["completion_tokens"])
