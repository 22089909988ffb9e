"""A storm: many streaming clients at once, a third of which hang up, and more work than the KV cache has blocks for.

    OMP_NUM_THREADS=1 python benchmarks/storm.py [--clients 200] [--shape crowd|preempting] [--json]

A real server answers greedy and seeded requests over loopback. Some clients leave before their first token, some in
the middle; some ask for what cannot be served, and must be told so. Afterwards every block must be free again, and each
answer that was read to its end is compared with that of a second server, which keeps no prefixes, has memory for all,
and is asked one request at a time. Exit status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import anyio
import httpx
from prometheus_client.parser import text_string_to_metric_families
from server_process import ServerProcess
from storm_clients import BLOCK_SIZE, SHAPES, Client, Shape, make_clients

PATH = "/v1/chat/completions"
TIMEOUT_SECONDS = 300.0
LOOK_SECONDS = 0.02


@dataclass
class Reading:
    """What a client got: text and finish reason of each choice, as far as it read."""

    status: int | None = None
    num_events: int = 0
    is_whole: bool = False
    error: str | None = None
    texts: dict[int, str] = field(default_factory=dict)
    finish_reasons: dict[int, str] = field(default_factory=dict)

    def take(self, chunk: dict[str, Any]) -> None:
        """Add an event of the stream."""
        self.num_events += 1
        if "error" in chunk:
            self.error = str(chunk["error"])
        for choice in chunk.get("choices", ()):
            index = choice["index"]
            self.texts[index] = self.texts.get(index, "") + (choice["delta"].get("content") or "")
            if choice["finish_reason"]:
                self.finish_reasons[index] = choice["finish_reason"]

    @property
    def answer(self) -> list[tuple[str, str]]:
        """Text and finish reason, by choice."""
        return [(self.texts[index], self.finish_reasons[index]) for index in sorted(self.texts)]


@dataclass
class Report:
    """What the storm showed."""

    clients: int
    blocks: int = 0
    blocks_wanted: int = 0  # by the answers that were read to their end, without shared prefixes
    free_before: int = 0
    free_after: int = 0
    peak_running: int = 0
    peak_waiting: int = 0
    preemptions: int = 0
    whole: int = 0
    left_before_first_token: int = 0
    left_midway: int = 0
    refused_as_asked: int = 0
    greedy_compared: int = 0
    sampled_compared: int = 0
    tokens_generated: int = 0
    storm_seconds: float = 0.0
    idle_seconds: float = 0.0
    exit_status: int | None = None
    different: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing happened that was not asked for."""
        return not self.different and not self.errors and self.free_after == self.free_before and self.exit_status == 0


async def read(http: httpx.AsyncClient, client: Client) -> Reading:
    """Ask, and read for as long as this client stays; leaving closes the connection."""
    reading = Reading()
    try:
        with anyio.move_on_after(client.max_seconds):
            async with http.stream("POST", PATH, json=client.body) as response:
                reading.status = response.status_code
                if response.status_code != 200:
                    reading.error = (await response.aread()).decode()
                    return reading
                await _read_events(response, client, reading)
    except httpx.HTTPError as error:
        reading.error = repr(error)
    return reading


async def _read_events(response: httpx.Response, client: Client, reading: Reading) -> None:
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            reading.is_whole = True
        elif line:
            reading.take(json.loads(line.removeprefix("data: ")))
        if reading.num_events >= client.max_events:
            return


async def read_gauges(http: httpx.AsyncClient) -> dict[str, int]:
    """The engine's figures in /metrics, by name without the prefix."""
    text = (await http.get("/metrics")).text
    return {
        sample.name.removeprefix("jackfield_"): int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels and not sample.name.endswith(("_sum", "_created"))
    }


async def storm(http: httpx.AsyncClient, clients: list[Client], report: Report) -> list[Reading]:
    """All clients at once, and looks at the engine all the while, until it is idle again."""
    before = await read_gauges(http)
    report.blocks, report.free_before = before["total_blocks"], before["free_blocks"]
    started = time.perf_counter()

    async def visit(client: Client) -> Reading:
        await asyncio.sleep(client.arrives)
        return await read(http, client)

    visits = asyncio.gather(*(visit(client) for client in clients))
    deadline = started + TIMEOUT_SECONDS
    while time.perf_counter() < deadline:
        now = await read_gauges(http)
        report.peak_running = max(report.peak_running, now["running_sequences"])
        report.peak_waiting = max(report.peak_waiting, now["waiting_sequences"])
        if visits.done() and now["running_sequences"] == now["waiting_sequences"] == 0:
            break
        await asyncio.sleep(LOOK_SECONDS)
    report.free_after, report.preemptions = now["free_blocks"], now["preemptions_total"]
    report.tokens_generated = now["generated_tokens_total"]
    report.storm_seconds = time.perf_counter() - started
    return await asyncio.wait_for(visits, 1)


def count(report: Report, clients: list[Client], readings: list[Reading]) -> None:
    """Sort what the clients saw into what was asked for and what was not."""
    for client, reading in zip(clients, readings, strict=True):
        if client.expected_status != 200 and reading.status == client.expected_status:
            report.refused_as_asked += 1
        elif reading.error is not None or (reading.status or 200) != client.expected_status:
            report.errors.append(f"{reading.status}: {reading.error}")
        elif reading.is_whole:
            report.whole += 1
        elif not client.hangs_up:
            report.errors.append(f"a stream ended after {reading.num_events} events without [DONE]")
        elif reading.num_events:
            report.left_midway += 1
        else:
            report.left_before_first_token += 1


async def compare(http: httpx.AsyncClient, clients: list[Client], readings: list[Reading], report: Report) -> None:
    """Ask an idle server for each answer that was read to its end, one at a time."""
    started = time.perf_counter()
    for client, reading in zip(clients, readings, strict=True):
        if not reading.is_whole:
            continue
        response = await http.post(PATH, json={**client.body, "stream": False})
        completion = response.raise_for_status().json()
        expected = [(choice["message"]["content"], choice["finish_reason"]) for choice in completion["choices"]]
        report.blocks_wanted += math.ceil(completion["usage"]["total_tokens"] / BLOCK_SIZE)
        if client.body["temperature"] == 0:
            report.greedy_compared += 1
        else:
            report.sampled_compared += 1
        if reading.answer != expected:
            report.different.append(f"{client.body}\n   idle: {expected}\n  storm: {reading.answer}")
    report.idle_seconds = time.perf_counter() - started


async def run_storm(shape: Shape, clients: list[Client]) -> Report:
    """A server in a storm, then an idle one, each in a process of its own."""
    report = Report(len(clients))
    limits = httpx.Limits(max_connections=None)
    with ServerProcess(*shape.server_options()) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_SECONDS, limits=limits) as http:
            readings = await storm(http, clients, report)
        report.exit_status = server.stop()
        count(report, clients, readings)
        report.errors += [line for line in server.output().splitlines() if "ERROR" in line or "Traceback" in line]
    with ServerProcess(*shape.idle_server_options()) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT_SECONDS) as http:
            await compare(http, clients, readings, report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--shape", choices=SHAPES, default="crowd")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    report = asyncio.run(run_storm(shape, make_clients(shape, arguments.clients, arguments.seed)))
    figures = asdict(report)
    if arguments.json:
        print(json.dumps(figures))
    else:
        problems = [*figures.pop("different"), *figures.pop("errors")]
        for name, value in figures.items():
            number = f"{value:.1f}" if isinstance(value, float) else str(value)
            print(f"{name.replace('_', ' '):28}{number:>10}")
        print("\n".join(problems) or "no difference, no error")
    sys.exit(0 if report.is_clean else 1)


if __name__ == "__main__":
    main()
