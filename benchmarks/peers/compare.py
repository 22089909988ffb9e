"""Interleaved turns: in every repetition each engine answers the same requests, all there at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from peers.bench import Bench, in_turn
from peers.catalog import Engine
from peers.floors import Machine, decode_seconds, ideal_seconds
from peers.models import Models
from peers.process import EngineFailed
from peers.records import Record
from peers.workloads import START, Measure, Turn, part

PARTS = {("hf", "mix"): 16, ("hf", "unshared"): 8}  # requests that an engine answers of a measure


class Comparison:
    """Measures without arrivals. `peaks` are operations a second by number format (`floor.py --json`)."""

    def __init__(self, bench: Bench, models: Models, peaks: Mapping[str, float]) -> None:
        self._bench, self._models, self._peaks = bench, models, peaks

    def turns(self, measure: Measure, engines: Sequence[Engine], repeats: int) -> None:
        """One measure of engines side by side."""
        bench, results = self._bench, self._bench.results
        left = [each for each in engines if not results.has(measure.name, each.name, repeats - 1)]
        with bench.loaded(measure.name, left) as loaded:
            for each in loaded:  # of the measure's kind, and not counted
                warm = _warm(measure.make(next(bench.seeds)))
                bench.ask(measure.name, each, lambda process, warm=warm: [process.run(group) for group in warm.groups])
            for repetition in range(repeats):
                whole = measure.make(next(bench.seeds))
                for engine, process in in_turn(loaded, repetition):
                    if results.has(measure.name, engine.name, repetition):
                        continue
                    turn = _cut(measure.name, engine, whole)
                    answer = bench.ask_beside(
                        measure.name,
                        (engine, process),
                        lambda process, turn=turn: tuple(process.run(group) for group in turn.groups),
                    )
                    if answer is not None:
                        taken = (repetition, turn, *answer)
                        results.add(self._record(measure, engine, taken, process.memory()))

    def starts(self, engines: Sequence[Engine], repeats: int) -> None:
        """From nothing to the first token, the files in the page cache; what is resident then, and at most before."""
        bench, results = self._bench, self._bench.results
        able = bench.willing(START, engines)
        for repetition in range(repeats):
            for engine in in_turn(able, repetition):
                if results.has(START, engine.name, repetition) or results.has_failed(START, engine.name):
                    continue
                bench.launcher.warm(engine)
                try:
                    with bench.launcher.process(START, engine) as process:
                        seconds, memory, load = process.first_token_seconds, process.memory(), os.getloadavg()[0]
                        results.settings.setdefault(engine.name, {})[START] = process.settings
                except (EngineFailed, OSError) as error:
                    results.fail(START, engine.name, str(error))
                    continue
                results.add(
                    Record(
                        measure=START,
                        engine=engine.name,
                        bits=engine.bits,
                        repetition=repetition,
                        rate=seconds,
                        unit="s",
                        seconds=(seconds,),
                        bandwidth=bench.bandwidth.sample(),
                        of_floor=None,
                        requests=1,
                        load=load,
                        memory=memory,
                    )
                )

    def _record(
        self,
        measure: Measure,
        engine: Engine,
        taken: tuple[int, Turn, tuple[float, ...], float],
        memory: Mapping[str, int],
    ) -> Record:
        repetition, turn, seconds, bandwidth = taken
        took = seconds[-1] - (seconds[0] if measure.weights_only else 0)
        return Record(
            measure=measure.name,
            engine=engine.name,
            bits=engine.bits,
            repetition=repetition,
            rate=measure.rate(turn, seconds),
            unit=measure.unit,
            seconds=seconds,
            bandwidth=bandwidth,
            of_floor=self._floor(measure, engine, turn, bandwidth) / took if took > 0 else None,
            requests=len(turn.counted),
            load=os.getloadavg()[0],
            memory=memory,
        )

    def _floor(self, measure: Measure, engine: Engine, turn: Turn, bandwidth: float) -> float:
        """Seconds. An engine of fewer bits has fewer bytes to read, and may multiply in as few."""
        weight_bytes = self._models.weight_bytes(engine.files, engine.options.get("quantization"))
        machine = Machine(bandwidth, self._peaks["bfloat16" if engine.bits == 16 else "int8"])
        lengths = [(len(ids), count) for ids, count in turn.counted]
        if measure.weights_only:
            return decode_seconds(weight_bytes, sum(count - 1 for _, count in lengths), machine)
        return ideal_seconds(self._models.shape(), weight_bytes, lengths, machine, turn.cached, warm=turn.is_warm)


def _cut(measure: str, engine: Engine, turn: Turn) -> Turn:
    count = PARTS.get((engine.peer, measure))
    return turn if count is None else part(turn, count)


def _warm(turn: Turn) -> Turn:
    """A small part of a turn: its first prompts, for a few tokens."""
    return turn._replace(groups=(tuple((ids, min(count, 4)) for ids, count in turn.counted[:4]),))
