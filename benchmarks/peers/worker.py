"""An engine in a process and an environment of its own, told what to do through a pipe.

    PYTHON worker.py ADAPTER MODEL OPTIONS

A line of JSON in, a line of JSON out: {"requests": [[ids, count], ...]} gives {"seconds": s}, and
{"arrivals": [[at, ids, count], ...]} gives {"streams": [[instant, ...], ...]}. The first line out comes when the engine
has answered its first token. Whatever the engine prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

sys.path[0] = str(Path(__file__).parents[1])  # not this folder: its names are no modules of their own

FIRST_PROMPT = list(range(300, 316))


def main() -> None:
    """Build the engine, answer until the pipe closes."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _, name, model, options = sys.argv
    module, _, adapter = name.rpartition(".")
    try:
        engine = getattr(import_module(f"peers.{module}"), adapter)(model, json.loads(options))
        engine.run([(FIRST_PROMPT, 1)])
    except Exception as error:  # an engine may raise anything; its reason is the result
        failed(error, out)
        return
    reply({"ready": True, "settings": engine.settings}, out)
    for line in sys.stdin:
        try:
            reply(answer(engine, json.loads(line)), out)
        except Exception as error:
            failed(error, out)
    engine.close()


def answer(engine: Any, message: dict[str, Any]) -> dict[str, Any]:
    """What one line asks."""
    if "arrivals" in message:
        return {"streams": streamed(engine, message["arrivals"])}
    return {"seconds": timed(engine, [(ids, count) for ids, count in message["requests"]])}


def streamed(engine: Any, arrivals: list[Any]) -> list[list[float]]:
    """Instants of each answer's events; RuntimeError as `timed`."""
    from peers.streams import Arrival

    streams = engine.stream([Arrival(*arrival) for arrival in arrivals])
    check([stream.tokens for stream in streams], [count for _, _, count in arrivals])
    return [stream.events for stream in streams]


def timed(engine: Any, requests: list[tuple[list[int], int]]) -> float:
    """Seconds for all requests; RuntimeError when an answer has another length than asked for."""
    start = time.perf_counter()
    counts, seconds = engine.run(requests)
    seconds = time.perf_counter() - start if seconds is None else seconds
    check(counts, [count for _, count in requests])
    return float(seconds)


def check(counts: list[int], wanted: list[int]) -> None:
    """RuntimeError when answers have other lengths than asked for."""
    if counts != wanted:
        raise RuntimeError(f"wanted answers of {wanted} tokens; got {counts}")


def failed(error: Exception, out: TextIO) -> None:
    """Tell why, in one line; the whole of it is in the log."""
    traceback.print_exc()
    lines = str(error).strip().splitlines() or [""]
    reply({"error": f"{type(error).__name__}: {lines[-1][:300]}"}, out)


def reply(message: dict[str, Any], out: TextIO) -> None:
    """One line."""
    print(json.dumps(message), file=out, flush=True)


if __name__ == "__main__":
    main()
