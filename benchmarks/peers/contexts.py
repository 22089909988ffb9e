"""One stream behind a long context: what attention adds to a token's time, and how fast it reads the K/V for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import median

import numpy as np

from peers.bench import Bench, Loaded
from peers.catalog import Engine
from peers.models import Models
from peers.records import Record
from peers.streams import Arrival
from peers.workloads import prompt

OUTPUT_LEN = 33  # 32 gaps
SHORT = 128  # tokens of the prompt whose tokens' time is subtracted
ONCE = ("hf",)  # keeps no prompt: it would fill the context anew each time


def long(bench: Bench, models: Models, engines: Sequence[Engine], case: tuple[str, tuple[int, ...], int]) -> None:
    """`case`: the measure (`long`, or `imported` for K/V that nobody computed), contexts, repetitions.

    One engine after another: the caches of several would not fit. The same prompts are asked in every repetition, so
    that whoever caches prefixes computes them once; imported ones are new each time.
    """
    measure, contexts, repeats = case
    again = {context: _arrival(context, next(bench.seeds)) for context in contexts}
    for engine in engines:
        turns = 1 if engine.peer in ONCE else repeats
        if all(bench.results.has(measure, engine.name, turns - 1, str(context)) for context in contexts):
            continue
        with bench.loaded(measure, [engine]) as loaded:
            for each in loaded:
                for repetition in range(turns):
                    fresh = {context: _arrival(context, next(bench.seeds)) for context in contexts}
                    _turn(bench, models, each, (measure, repetition, fresh if measure == "imported" else again))


def attention(seconds: float, short_seconds: float, kv_bytes: float, bandwidth: float) -> dict[str, float]:
    """Seconds a token of attention beyond a short context, bytes a second that it reads, and of the bandwidth.

    Where noise makes the long context no slower than the short one there are only the seconds.
    """
    took = seconds - short_seconds
    found = {"token_seconds": seconds, "short_seconds": short_seconds, "attention_seconds": took, "kv_bytes": kv_bytes}
    if took > 0:
        found |= {"kv_bytes_per_second": kv_bytes / took, "of_bandwidth": kv_bytes / took / bandwidth}
    return found


def gap(events: Sequence[float]) -> float:
    """Median seconds from one token to the next."""
    return float(median(np.diff(events)))


def _arrival(context: int, seed: int) -> Arrival:
    return Arrival(0.0, prompt(context, np.random.default_rng(seed)), OUTPUT_LEN)


def _turn(bench: Bench, models: Models, each: Loaded, case: tuple[str, int, dict[int, Arrival]]) -> None:
    """A short prompt, then each context."""
    (engine, process), (measure, repetition, arrivals) = each, case
    short = bench.ask(measure, each, lambda process: process.stream([_arrival(SHORT, next(bench.seeds))]))
    if short is None:
        return
    for context, arrival in arrivals.items():
        if bench.results.has(measure, engine.name, repetition, str(context)):
            continue
        answer = bench.ask_beside(measure, each, lambda process, arrival=arrival: process.stream([arrival]))
        if answer is None:
            return
        (events,), bandwidth = answer
        token_bytes = models.shape().kv_token_bytes * process.settings["kv_bits"] / 16
        found = attention(gap(events), gap(short[0]), (context - SHORT) * token_bytes, bandwidth)
        bench.results.add(
            Record(
                measure=measure,
                engine=engine.name,
                bits=engine.bits,
                repetition=repetition,
                rate=1 / found["token_seconds"],
                unit="tok/s",
                seconds=(events[0],),
                bandwidth=bandwidth,
                of_floor=found.get("of_bandwidth"),
                requests=1,
                load=os.getloadavg()[0],
                memory=process.memory(),
                case=str(context),
                figures={**found, "first_seconds": events[0]},
                streams=[events],
            )
        )
