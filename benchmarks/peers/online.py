"""Requests that arrive one by one, at rates that each engine nearly, or just not, holds out."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence

from peers.arrivals import Rate, figures, poisson, rates
from peers.bench import Bench, Loaded, in_turn
from peers.catalog import Engine
from peers.records import Record
from peers.streams import Arrival

ONLINE = "online"
NO_MIX = "no figure of `mix` in this folder, of whose output tokens a second the rates are shares"


def online(bench: Bench, engines: Sequence[Engine], repeats: int) -> None:
    """Every engine at every rate; saturation is the median of an engine's `mix`."""
    asked = rates(_saturations(bench, engines))
    cases = [(rate, repetition) for repetition in range(repeats) for rate in asked]
    left = [
        engine
        for engine in engines
        if any(not bench.results.has(ONLINE, engine.name, repetition, rate.describe()) for rate, repetition in cases)
    ]
    with bench.loaded(ONLINE, left) as loaded:
        for each in loaded:
            warm = [Arrival(0.0, ids, min(count, 4)) for _, ids, count in poisson(1, next(bench.seeds))[:4]]
            bench.ask(ONLINE, each, lambda process, warm=warm: process.stream(warm))
        for index, (rate, repetition) in enumerate(cases):
            arrivals = poisson(rate.requests, next(bench.seeds))
            for each in in_turn(loaded, index):
                if not bench.results.has(ONLINE, each[0].name, repetition, rate.describe()):
                    _turn(bench, each, (rate, repetition), arrivals)


def _saturations(bench: Bench, engines: Sequence[Engine]) -> dict[str, float]:
    """Output tokens a second of those that serve; others are told to measure it first."""
    found = {}
    for engine in bench.willing(ONLINE, engines):
        of_mix = [each.rate for each in bench.results.records if (each.measure, each.engine) == ("mix", engine.name)]
        if of_mix:
            found[engine.name] = statistics.median(of_mix)
        else:
            bench.results.fail(ONLINE, engine.name, NO_MIX)
    return found


def _turn(bench: Bench, each: Loaded, case: tuple[Rate, int], arrivals: Sequence[Arrival]) -> None:
    (engine, process), (rate, repetition) = each, case
    answer = bench.ask_beside(ONLINE, each, lambda process: process.stream(arrivals))
    if answer is None:
        return
    streams, bandwidth = answer
    found = figures(arrivals, streams)
    bench.results.add(
        Record(
            measure=ONLINE,
            engine=engine.name,
            bits=engine.bits,
            repetition=repetition,
            rate=found["tokens_per_second"],
            unit="out tok/s",
            seconds=(),
            bandwidth=bandwidth,
            of_floor=None,
            requests=len(arrivals),
            load=os.getloadavg()[0],
            memory=process.memory(),
            case=rate.describe(),
            figures=found,
            streams=[
                [round(instant, 4) for instant in (arrival.at, *events)]
                for arrival, events in zip(arrivals, streams, strict=True)
            ],
        )
    )
