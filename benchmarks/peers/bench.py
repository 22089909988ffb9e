"""What all measures share: engines that wait until it is their turn, and the bandwidth sampled beside each."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from bandwidth import Bandwidth

from peers.catalog import Engine
from peers.launch import Launcher
from peers.process import EngineFailed, EngineProcess
from peers.records import Results

T = TypeVar("T")
Loaded = tuple[Engine, EngineProcess]


class Bench:
    """Starts engines, gives them turns, and keeps what comes of it."""

    def __init__(self, launcher: Launcher, results: Results, bandwidth: Bandwidth) -> None:
        self.launcher, self.results, self.bandwidth = launcher, results, bandwidth
        self.seeds = itertools.count(int(time.time()))  # prompts that no engine has seen, not even in an earlier run

    def willing(self, measure: str, engines: Sequence[Engine]) -> list[Engine]:
        """Those that can have a figure; for the others the reason is noted."""
        able = []
        for engine in engines:
            if self.results.has_failed(measure, engine.name):
                continue
            reason = engine.refuses(measure)
            if reason is None:
                able.append(engine)
            else:
                self.results.fail(measure, engine.name, reason)
        return able

    @contextmanager
    def loaded(self, measure: str, engines: Sequence[Engine]) -> Iterator[list[Loaded]]:
        """Processes that wait, stopped; without those that fail, which is a failure of the measure."""
        with ExitStack() as stack:
            opened = [(engine, self._open(measure, engine, stack)) for engine in self.willing(measure, engines)]
            yield [(engine, process) for engine, process in opened if process is not None]

    def _open(self, measure: str, engine: Engine, stack: ExitStack) -> EngineProcess | None:
        try:
            process = stack.enter_context(self.launcher.process(measure, engine))
        except (EngineFailed, OSError) as error:
            self.results.fail(measure, engine.name, str(error))
            return None
        self.results.settings.setdefault(engine.name, {})[measure] = process.settings
        process.pause()
        return process

    def ask(self, measure: str, loaded: Loaded, question: Callable[[EngineProcess], T]) -> T | None:
        """An engine's turn; None when it failed, which ends its part in the measure."""
        engine, process = loaded
        if self.results.has_failed(measure, engine.name):
            return None
        process.resume()
        try:
            return question(process)
        except (EngineFailed, OSError) as error:
            self.results.fail(measure, engine.name, str(error))
            return None
        finally:
            process.pause()

    def ask_beside(
        self, measure: str, loaded: Loaded, question: Callable[[EngineProcess], T]
    ) -> tuple[T, float] | None:
        """The same, and the bandwidth before and after."""
        before = self.bandwidth.sample()
        answer = self.ask(measure, loaded, question)
        return None if answer is None else (answer, (before + self.bandwidth.sample()) / 2)


def in_turn(things: Sequence[T], repetition: int) -> Sequence[T]:
    """Forwards and backwards by turns, so that nobody always follows the same neighbour."""
    return things if repetition % 2 == 0 else things[::-1]
