"""Interleaved runs: in every repetition each engine has its turn, with the bandwidth sampled before and after."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from bandwidth import Bandwidth

from peers.catalog import CONTEXT, SEQUENCES, Engine
from peers.floors import Machine, decode_seconds, ideal_seconds
from peers.installs import Installs
from peers.models import Models
from peers.process import WORKER, EngineFailed, EngineProcess
from peers.workloads import START, Measure, Turn, part

PARTS = {("Transformers", "mix"): 16, ("Transformers", "unshared"): 8}  # requests that an engine answers of a measure
TCMALLOC = ("/usr/lib/*-linux-gnu/libtcmalloc_minimal.so.4", "/usr/lib64/libtcmalloc_minimal.so.4")


class Record(NamedTuple):
    """One turn of one engine. `of_floor` is the least time possible over the time that it took."""

    measure: str
    engine: str
    bits: int
    repetition: int
    rate: float
    unit: str
    seconds: tuple[float, ...]  # of each group of requests
    bandwidth: float  # bytes a second, mean of before and after
    of_floor: float | None
    requests: int
    load: float  # of the machine, over the last minute
    memory: Mapping[str, int]


class Failure(NamedTuple):
    """An engine that is not in a table, and its reason."""

    measure: str
    engine: str
    why: str


class Comparison:
    """Who runs where. `peaks` are operations a second by number format (`floor.py --json`); records gather in it."""

    def __init__(self, installs: Installs, models: Models, peaks: Mapping[str, float], *, timeout: float) -> None:
        self._installs, self._models, self._peaks, self._timeout = installs, models, peaks, timeout
        self._seeds = itertools.count(int(time.time()))  # prompts that no engine has seen, not even in an earlier run
        self._threads = len(os.sched_getaffinity(0))
        self.records: list[Record] = []
        self.failures: list[Failure] = []
        self.settings: dict[str, Any] = {}

    def run(self, measure: Measure | None, engines: Sequence[Engine], repeats: int, bandwidth: Bandwidth) -> None:
        """One measure (None: the start) of engines side by side."""
        if measure is None:
            for repetition in range(repeats):
                for engine in _in_turn(engines, repetition):
                    self._start(engine, repetition, bandwidth)
            return
        with ExitStack() as stack:
            opened = [(engine, self._open(measure.name, engine, stack)) for engine in engines]
            loaded = [(engine, process) for engine, process in opened if process is not None]
            for engine, process in loaded:  # of the measure's kind, and not counted
                self._turn(measure, engine, process, _warm(measure.make(next(self._seeds))))
            for repetition in range(repeats):
                whole = measure.make(next(self._seeds))
                for engine, process in _in_turn(loaded, repetition):
                    if self._has_failed(measure.name, engine):
                        continue
                    turn = _cut(measure.name, engine, whole)
                    before = bandwidth.sample()
                    seconds = self._turn(measure, engine, process, turn)
                    if seconds is not None:
                        rate = (before + bandwidth.sample()) / 2
                        self._tell(self._record(measure, engine, repetition, turn, seconds, rate, process.memory()))

    def _open(self, measure: str, engine: Engine, stack: ExitStack) -> EngineProcess | None:
        """A process that waits, stopped; None when there is none, which is a failure of the measure."""
        if self._has_failed("install", engine):
            return None
        try:
            process = stack.enter_context(self._process(measure, engine))
        except (EngineFailed, OSError) as error:
            self._fail(measure, engine, error)
            return None
        self.settings[engine.name] = process.settings
        process.pause()
        return process

    def _process(self, measure: str, engine: Engine) -> EngineProcess:
        pool_tokens = engine.pool_tokens(measure)
        options = {
            "own": engine.options_for(measure),
            "threads": self._threads,
            "context": min(CONTEXT, self._models.context()),
            "sequences": SEQUENCES,
            "pool_tokens": pool_tokens,
            "kv_bytes": pool_tokens * self._models.shape().kv_token_bytes,
            "programs": str(self._installs.llama_programs),
        }
        if engine.adapter == "Jackfield":
            options["own"].pop("share_prefixes")  # it always may
        python, files = self._installs.python(engine.peer), str(self._models.prepare(engine.files))
        command = [python, str(WORKER), engine.adapter, files, json.dumps(options)]
        log = self._installs.logs / f"run-{engine.name.replace(' ', '-')}.log"
        return EngineProcess(command, self._environment(engine, options["kv_bytes"]), log, seconds=self._timeout)

    def _environment(self, engine: Engine, kv_bytes: int) -> dict[str, str]:
        """What each project recommends for a CPU; nobody asks the network for anything."""
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        if engine.adapter == "Transformers":
            env["OMP_NUM_THREADS"] = str(self._threads)
        if engine.adapter == "Vllm":
            cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
            local = dict.fromkeys(("VLLM_HOST_IP", "VLLM_LOOPBACK_IP"), "127.0.0.1")
            gib = str(max(1, kv_bytes // 2**30))
            env |= {**local, "GLOO_SOCKET_IFNAME": "lo", "VLLM_NO_USAGE_STATS": "1"}
            env |= {"VLLM_CPU_OMP_THREADS_BIND": cpus, "VLLM_CPU_KVCACHE_SPACE": gib}
            env["LD_PRELOAD"] = ":".join(self._preloads())
        return env

    def _preloads(self) -> Iterator[str]:
        """tcmalloc if the system has it, and the OpenMP that vLLM's wheel ships."""
        for pattern in TCMALLOC:
            yield from map(str, Path("/").glob(pattern[1:]))
        openmp = self._installs.root / "vllm" / "lib" / "libiomp5.so"
        if openmp.exists():
            yield str(openmp)

    def _turn(self, measure: Measure, engine: Engine, process: EngineProcess, turn: Turn) -> tuple[float, ...] | None:
        """Seconds of each group; None when the engine failed, which ends its part in the measure."""
        process.resume()
        try:
            return tuple(process.run(group) for group in turn.groups)
        except (EngineFailed, OSError) as error:
            self._fail(measure.name, engine, error)
            return None
        finally:
            process.pause()

    def _start(self, engine: Engine, repetition: int, bandwidth: Bandwidth) -> None:
        """From nothing to the first token, and what is resident then."""
        if self._has_failed("install", engine) or self._has_failed(START, engine) or engine.adapter == "LlamaBench":
            return
        try:
            with self._process(START, engine) as process:
                seconds, memory, load = process.first_token_seconds, process.memory(), os.getloadavg()[0]
        except (EngineFailed, OSError) as error:
            self._fail(START, engine, error)
            return
        self._tell(
            Record(
                START,
                engine.name,
                engine.bits,
                repetition,
                seconds,
                "s",
                (seconds,),
                bandwidth.sample(),
                None,
                1,
                load,
                memory,
            )
        )

    def _record(
        self,
        measure: Measure,
        engine: Engine,
        repetition: int,
        turn: Turn,
        seconds: tuple[float, ...],
        bandwidth: float,
        memory: Mapping[str, int],
    ) -> Record:
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
        return ideal_seconds(self._models.shape(), weight_bytes, lengths, machine, turn.cached)

    def _tell(self, record: Record) -> None:
        self.records.append(record)
        floor = "" if record.of_floor is None else f", {record.of_floor:.2f} of the floor"
        print(
            f"{record.measure} {record.repetition}: {record.engine} {record.rate:.2f} {record.unit}{floor} "
            f"({record.bandwidth / 1e9:.1f} GB/s, load {record.load:.1f})",
            flush=True,
        )

    def fail(self, measure: str, engine: str, why: str) -> None:
        """Note why an engine has no figure, and say it."""
        self.failures.append(Failure(measure, engine, why))
        print(f"{measure}: {engine} is left out: {why}", flush=True)

    def _fail(self, measure: str, engine: Engine, error: Exception) -> None:
        self.fail(measure, engine.name, str(error))

    def _has_failed(self, measure: str, engine: Engine) -> bool:
        return any(failure.measure == measure and failure.engine == engine.name for failure in self.failures)


def _in_turn(engines: Sequence[Any], repetition: int) -> Sequence[Any]:
    """Forwards and backwards by turns, so that nobody always follows the same neighbour."""
    return engines if repetition % 2 == 0 else engines[::-1]


def _cut(measure: str, engine: Engine, turn: Turn) -> Turn:
    count = PARTS.get((engine.adapter, measure))
    return turn if count is None else part(turn, count)


def _warm(turn: Turn) -> Turn:
    """A small part of a turn: its first prompts, for a few tokens."""
    return turn._replace(groups=(tuple((ids, min(count, 4)) for ids, count in turn.counted[:4]),))
