"""An engine in a process and an environment of its own, told what to do through a pipe.

    PYTHON worker.py ADAPTER MODEL OPTIONS

A line of JSON in, a line of JSON out: {"requests": [[ids, count], ...]} gives {"seconds": s}. The first line out comes
when the engine has answered its first token. Whatever the engine prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

sys.path[0] = str(Path(__file__).parents[1])  # not this folder: its names are no modules of their own

FIRST_PROMPT = list(range(300, 316))


def main() -> None:
    """Build the engine, answer until the pipe closes."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from peers import adapters

    _, name, model, options = sys.argv
    try:
        engine = getattr(adapters, name)(model, json.loads(options))
        engine.run([(FIRST_PROMPT, 1)])
    except Exception as error:  # an engine may raise anything; its reason is the result
        failed(error, out)
        return
    reply({"ready": True, "settings": engine.settings}, out)
    for line in sys.stdin:
        requests = [(ids, count) for ids, count in json.loads(line)["requests"]]
        try:
            reply({"seconds": timed(engine, requests)}, out)
        except Exception as error:
            failed(error, out)
    engine.close()


def timed(engine: Any, requests: list[tuple[list[int], int]]) -> float:
    """Seconds for all requests; RuntimeError when an answer has another length than asked for."""
    start = time.perf_counter()
    counts, seconds = engine.run(requests)
    seconds = time.perf_counter() - start if seconds is None else seconds
    wanted = [count for _, count in requests]
    if counts != wanted:
        raise RuntimeError(f"wanted answers of {wanted} tokens; got {counts}")
    return float(seconds)


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
