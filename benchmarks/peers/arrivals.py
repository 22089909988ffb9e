"""Poisson arrivals of short chats: who comes when, at which rates, and what the answers' instants say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jackfield.bench.lengths import length_mix
from peers.streams import Arrival
from peers.workloads import prompt

REQUESTS = 48
PROMPT_LEN, OUTPUT_LEN, LONGEST = 110, 95, 512  # the mix at half its lengths, so that each rate takes a minute or two
SHARES = (0.6, 0.9)  # of an engine's saturation
ALIKE = 0.03  # rates closer than that are one


class Rate(NamedTuple):
    """Requests a second, and whose share of saturation that is."""

    requests: float
    whose: tuple[str, ...]

    def describe(self) -> str:
        """For people: `1.23 requests/s (60 % of A, 90 % of B)`."""
        return f"{self.requests:.3g} requests/s ({', '.join(self.whose)})"


def lengths() -> list[tuple[int, int]]:
    """(prompt tokens, tokens to generate), the same in every repetition."""
    return length_mix(REQUESTS, PROMPT_LEN, OUTPUT_LEN, longest=LONGEST, seed=2).lengths


def poisson(rate: float, seed: int) -> list[Arrival]:
    """Requests of new tokens with exponential gaps, whose sequence does not depend on the seed or, up to scale, on the
    rate: engines and rates differ by nothing else.
    """
    gaps = np.random.default_rng(3).exponential(1, REQUESTS)
    instants = np.cumsum(gaps) / rate
    rng = np.random.default_rng(seed)
    return [
        Arrival(float(at), prompt(first, rng), second) for at, (first, second) in zip(instants, lengths(), strict=True)
    ]


def rates(saturations: Mapping[str, float]) -> list[Rate]:
    """Shares of each engine's saturation, from its output tokens a second with all requests at once."""
    mean = sum(second for _, second in lengths()) / REQUESTS
    wanted = [
        (share * tokens / mean, f"{share:.0%} of {name}") for name, tokens in saturations.items() for share in SHARES
    ]
    found: list[Rate] = []
    for requests, whose in sorted(wanted):
        if found and requests < found[-1].requests * (1 + ALIKE):
            found[-1] = found[-1]._replace(whose=(*found[-1].whose, whose))
        else:
            found.append(Rate(requests, (whose,)))
    return found


def figures(arrivals: Sequence[Arrival], streams: Sequence[Sequence[float]]) -> dict[str, float]:
    """Milliseconds to the first event and between events, p50 and p99; output tokens a second; tokens an event."""
    first = [1e3 * (events[0] - arrival.at) for arrival, events in zip(arrivals, streams, strict=True)]
    gaps = np.concatenate([1e3 * np.diff(events) for events in streams])
    tokens = sum(arrival.count for arrival in arrivals)
    last = max(events[-1] for events in streams)
    return {
        **{f"first_p{q}": float(np.percentile(first, q)) for q in (50, 99)},
        **{f"between_p{q}": float(np.percentile(gaps, q)) for q in (50, 99)},
        "tokens_per_second": tokens / (last - arrivals[0].at),
        "tokens_per_event": tokens / sum(len(events) for events in streams),
    }
