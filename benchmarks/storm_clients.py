"""Who comes in a storm: shapes of servers and requests, and clients that stay or leave."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

BLOCK_SIZE = 16  # tokens
THINGS = (
    "list string tuple dict file socket thread module class object exception loop path bytes number set"
    " function iterator decorator generator queue lock process parser regular expression"
    " date time format index slice import"
)
SYSTEM = "You explain the Python standard library in short sentences and give one example for each answer."
LATEST_ARRIVAL, LATEST_LEAVE = 0.3, 1.5  # seconds after the storm begins, and after a client's own arrival


@dataclass(frozen=True)
class Shape:
    """What the server has, and what it is asked for. Ranges are inclusive."""

    kv_cache_memory: str
    max_model_len: int
    prompt_words: tuple[int, int]
    answer_tokens: tuple[int, int]

    def server_options(self) -> list[str]:
        """Of the server in the storm: float32, so that the order of sums decides nothing."""
        memory = ["--kv-cache-memory", self.kv_cache_memory, "--block-size", str(BLOCK_SIZE)]
        return [*self._common_options(), *memory]

    def idle_server_options(self) -> list[str]:
        """Of the server that is asked one request at a time."""
        return [*self._common_options(), "--no-enable-prefix-caching"]

    def _common_options(self) -> list[str]:
        return ["--platform", "cpu", "--dtype", "float32", "--max-model-len", str(self.max_model_len)]


SHAPES = {
    "crowd": Shape("4M", 512, prompt_words=(1, 120), answer_tokens=(4, 64)),
    "preempting": Shape("1M", 128, prompt_words=(1, 3), answer_tokens=(50, 100)),
}


@dataclass(frozen=True)
class Client:
    """One request, and how long its reader stays."""

    body: dict[str, Any]
    arrives: float  # seconds after the storm's beginning
    max_seconds: float = math.inf
    max_events: float = math.inf
    expected_status: int = 200

    @property
    def hangs_up(self) -> bool:
        """Whether it means to leave before the end; it may come too late for that."""
        return min(self.max_seconds, self.max_events) < math.inf


def make_clients(shape: Shape, count: int, seed: int, latest_arrival: float = LATEST_ARRIVAL) -> list[Client]:
    """`count` clients within `latest_arrival` seconds: one in 16 asks for what is refused, a third is sampled.

    Two in five mean to hang up; some come too late for it, so that a third of all does.
    """
    rng = random.Random(seed)
    clients = []
    for number in range(count):
        arrives = rng.uniform(0, latest_arrival)
        body = make_body(shape, rng)
        if number % 16 == 15:
            clients.append(Client({**body, "temperature": -1}, arrives, expected_status=400))
        elif number % 5 == 0:
            clients.append(Client(body, arrives, max_seconds=rng.uniform(0, LATEST_LEAVE)))
        elif number % 5 == 1:
            clients.append(Client(body, arrives, max_events=rng.randint(1, body["max_tokens"])))
        else:
            clients.append(Client(body, arrives))
    return clients


def make_body(shape: Shape, rng: random.Random) -> dict[str, Any]:
    """A streamed chat request: greedy, or sampled with a seed of its own."""
    question = " ".join(rng.choices(THINGS.split(), k=rng.randint(*shape.prompt_words)))
    messages = [{"role": "user", "content": f"What is {question}?"}]
    if shape.prompt_words[1] > 20 and rng.random() < 0.5:  # a prefix that many share
        messages.insert(0, {"role": "system", "content": SYSTEM})
    body = {"messages": messages, "max_tokens": rng.randint(*shape.answer_tokens), "ignore_eos": rng.random() < 0.7}
    if rng.random() < 0.1:
        body["stop"] = ["class", "\n\n"]
    if rng.random() < 0.67:
        return {**body, "stream": True, "temperature": 0}
    sampling = {
        "temperature": rng.uniform(0.5, 1.2),
        "top_p": rng.uniform(0.7, 1),
        "presence_penalty": rng.uniform(0, 1),
    }
    return {**body, **sampling, "stream": True, "seed": rng.getrandbits(31), "n": rng.choice((1, 1, 2))}
