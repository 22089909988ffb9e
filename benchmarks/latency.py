"""Time between the tokens of 8 running streams while a 2,000-token prompt arrives, beside the same without it.

    python benchmarks/latency.py [--model FOLDER] [--dtype bfloat16] [--arrivals 5] [--quiet-seconds 10] [--json]

A real server over loopback. A gap is the time between two events of one stream; it belongs to an arrival if the two
instants enclose any of the time from the prompt's sending to its first token. Prompts are random token ids, so that no
prefix is cached. A warm-up prompt goes first, unmeasured: it gives the server its first idea of what a token costs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from server_process import ServerProcess

PATH = "/v1/completions"
TIMEOUT_SECONDS = 600.0
STREAM_PROMPT_TOKENS = 32
MAX_TOKEN_ID = 2_000  # ids below this one are in every vocabulary, apart from a few special ones at its beginning
MIN_TOKEN_ID = 10


@dataclass(frozen=True)
class Arrival:
    """A long prompt: when it was sent, and when its first token came. Seconds on one clock."""

    sent: float
    answered: float


class Load:
    """Streams that never end: each asks again when its answer is complete."""

    def __init__(self, http: httpx.AsyncClient, num_streams: int, answer_tokens: int, seed: int) -> None:
        self._http, self._num_streams, self._answer_tokens = http, num_streams, answer_tokens
        self._random = random.Random(seed)
        self.answers: list[list[float]] = []  # instants of the events of each answer so far

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside, all streams run."""
        tasks = [asyncio.create_task(self._stream(number)) for number in range(self._num_streams)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if not isinstance(end, asyncio.CancelledError):
                raise RuntimeError("a stream failed") from end

    async def until_all_stream(self, num_events: int) -> None:
        """Wait until each of the first answers has this many events."""
        while len(self.answers) < self._num_streams or any(len(answer) < num_events for answer in self.answers):
            await asyncio.sleep(0.01)

    def gaps(self) -> np.ndarray:
        """Begin and end of each gap between two events of an answer. [gaps, 2], seconds"""
        pairs = [np.stack([answer[:-1], answer[1:]], axis=1) for answer in self.answers if len(answer) > 1]
        return np.concatenate(pairs)

    async def prompt(self, num_tokens: int, max_tokens: int) -> list[float]:
        """Ask once; the instants of its events."""
        return await self._ask(num_tokens, max_tokens, [])

    async def _stream(self, number: int) -> None:
        while True:
            self.answers.append([])
            # the first answers differ in length, so that they do not all begin again at once
            share = (number + 1) / self._num_streams if len(self.answers) <= self._num_streams else 1.0
            await self._ask(STREAM_PROMPT_TOKENS, max(64, int(share * self._answer_tokens)), self.answers[-1])

    async def _ask(self, num_tokens: int, max_tokens: int, instants: list[float]) -> list[float]:
        prompt = [self._random.randrange(MIN_TOKEN_ID, MAX_TOKEN_ID) for _ in range(num_tokens)]
        body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True, "stream": True}
        async with self._http.stream("POST", PATH, json=body) as response:
            if response.status_code != 200:
                raise RuntimeError((await response.aread()).decode())
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    instants.append(time.perf_counter())
        return instants


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    num_streams: int
    answer_tokens: int
    prompt_tokens: int
    num_arrivals: int
    quiet_seconds: float


async def measure(url: str, plan: Plan) -> dict[str, Any]:
    """Gaps in milliseconds, and seconds to the first token of long prompts: alone, then beside the streams."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, limits=limits) as http:
        load = Load(http, plan.num_streams, plan.answer_tokens, seed=8)
        alone = [await arrive(load, plan.prompt_tokens) for _ in range(plan.num_arrivals)]
        async with load.running():
            await load.until_all_stream(num_events=8)
            started = time.perf_counter()
            await asyncio.sleep(plan.quiet_seconds)
            quiet = Arrival(started, time.perf_counter())
            arrivals = []
            for _ in range(plan.num_arrivals):
                arrivals.append(await arrive(load, plan.prompt_tokens))
                await asyncio.sleep(plan.quiet_seconds / plan.num_arrivals)
    gaps = load.gaps()
    return {
        "gaps_ms": {
            "without": summary(1e3 * lengths_within(gaps, [quiet])),
            "while a prompt arrives": summary(1e3 * lengths_within(gaps, arrivals)),
        },
        "first_token_ms": {
            "alone": summary(1e3 * durations(alone[1:] or alone)),  # the first one warms the server up
            "beside the streams": summary(1e3 * durations(arrivals)),
        },
    }


async def arrive(load: Load, num_tokens: int) -> Arrival:
    """Send a long prompt and wait for its first token."""
    sent = time.perf_counter()
    first, *_ = await load.prompt(num_tokens, max_tokens=1)
    return Arrival(sent, first)


def lengths_within(gaps: np.ndarray, spans: list[Arrival]) -> np.ndarray:
    """Seconds of each gap that overlaps a span."""
    touches = [(gaps[:, 1] > span.sent) & (gaps[:, 0] < span.answered) for span in spans]
    inside = gaps[np.logical_or.reduce(touches)]
    return np.diff(inside, axis=1)[:, 0]


def durations(arrivals: list[Arrival]) -> np.ndarray:
    """Seconds from sending to the first token."""
    return np.array([arrival.answered - arrival.sent for arrival in arrivals])


def summary(values: np.ndarray) -> dict[str, float]:
    """Count, median, 99th percentile and maximum."""
    p50, p99 = np.percentile(values, [50, 99])
    return {"count": len(values), "p50": float(p50), "p99": float(p99), "max": float(values.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder; the embedded model without one")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--answer-tokens", type=int, default=1_900, help="of each stream; then it asks again")
    parser.add_argument("--prompt-tokens", type=int, default=2_000)
    parser.add_argument("--arrivals", type=int, default=5)
    parser.add_argument("--quiet-seconds", type=float, default=10.0, help="without arrivals, and between them together")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    plan = Plan(
        arguments.streams,
        arguments.answer_tokens,
        arguments.prompt_tokens,
        arguments.arrivals,
        arguments.quiet_seconds,
    )
    model = ["--model", arguments.model] if arguments.model else []
    with ServerProcess(*model, "--dtype", arguments.dtype) as server:
        result = asyncio.run(measure(server.url, plan))
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{plan.num_streams} streams, {plan.num_arrivals} prompts of {plan.prompt_tokens} tokens; milliseconds")
    print(f"{'':40}{'count':>8}{'p50':>10}{'p99':>10}{'max':>10}")
    for measured, title in (("gaps_ms", "between tokens"), ("first_token_ms", "to the prompt's first token")):
        for case, row in result[measured].items():
            print(f"{title + ', ' + case:40}" + "{count:>8}{p50:>10.1f}{p99:>10.1f}{max:>10.1f}".format(**row))


if __name__ == "__main__":
    main()
