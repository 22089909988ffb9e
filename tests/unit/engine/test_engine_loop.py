"""The step loop, plain and overlapped, over an executor that only counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest, EngineStats
from jackfield.engine.model_info import ModelInfo
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.step import SAMPLED_LAST, Step, StepResult
from jackfield.sampling_params import SamplingParams

INFO = ModelInfo(name="counter", max_model_len=512, vocab_size=10_000, eos_token_ids=frozenset(), tokenizer="")


class CountingExecutor:
    """Samples "the last token plus one", keeping what each slot sampled last, and writes down the order of events."""

    def __init__(self) -> None:
        self.last = np.zeros(64, np.int64)
        self.events: list[tuple[str, int]] = []
        self.broken: dict[tuple[str, int], Exception] = {}

    def count(self, stats: EngineStats) -> EngineStats:
        return stats

    def launch(self, step: Step) -> Any:
        self._event("launch", step.id)
        ends = np.cumsum(step.num_new) - 1
        tokens = np.where(step.tokens[ends] == SAMPLED_LAST, self.last[step.slots], step.tokens[ends])
        sampled = (tokens + 1)[step.samples]
        self.last[step.slots[step.samples]] = sampled
        return step.id, sampled

    def sample(self, forward: Any, masks: Any = None) -> Any:
        executor = self

        class Pending:
            def wait(self) -> StepResult:
                executor._event("wait", forward[0])
                return StepResult(forward[1].astype(np.int32))

        return Pending()

    def _event(self, name: str, step: int) -> None:
        self.events.append((name, step))
        if (name, step) in self.broken:
            raise self.broken[name, step]


def engine_with(executor: CountingExecutor, depth: int) -> Engine:
    config = SchedulerConfig(
        max_num_seqs=8, max_num_batched_tokens=64, max_model_len=512, groups=(KVGroup(None, 16, 200),)
    )
    return Engine(Scheduler(config), executor, INFO, depth=depth)


def request(name: str, first: int, length: int = 5, max_tokens: int = 6) -> EngineRequest:
    prompt = list(range(first, first + length))
    return EngineRequest(name, prompt, SamplingParams(temperature=0, seed=0, max_tokens=max_tokens))


def drive(engine: Engine) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Run to the end; tokens and endings by request."""
    tokens: dict[str, list[int]] = {}
    endings: dict[str, str] = {}
    for _ in range(500):
        if not engine.has_work:
            return tokens, endings
        for output in engine.step().each():
            tokens.setdefault(output.id, []).extend(output.token_ids)
            if output.finish_reason:
                endings[output.id] = output.error or output.finish_reason
    raise AssertionError("the engine does not come to an end")


@pytest.mark.parametrize("depth", [1, 2])
def test_every_sequence_counts_on_from_its_prompt(depth: int) -> None:
    engine = engine_with(CountingExecutor(), depth)
    for index in range(12):
        engine.add(request(str(index), 100 * index, length=3 + 7 * index))
    tokens, endings = drive(engine)
    for index in range(12):
        first = 100 * index + 3 + 7 * index
        assert tokens[str(index)] == list(range(first, first + 6))
    assert set(endings.values()) == {"length"}


def test_the_plain_loop_waits_for_each_step() -> None:
    executor = CountingExecutor()
    engine = engine_with(executor, 1)
    engine.add(request("a", 10))
    drive(engine)
    assert executor.events == [event for step in range(6) for event in (("launch", step), ("wait", step))]


def test_the_overlapped_loop_launches_before_it_reads() -> None:
    executor = CountingExecutor()
    engine = engine_with(executor, 2)
    engine.add(request("a", 10))
    drive(engine)
    order = {event: place for place, event in enumerate(executor.events)}
    for step in range(5):
        assert order["launch", step + 1] < order["wait", step]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("where", ["launch", "wait"])
def test_a_step_that_fails_fails_its_requests_and_no_others(depth: int, where: str) -> None:
    executor = CountingExecutor()
    engine = engine_with(executor, depth)
    free = engine.stats().num_free_blocks
    engine.add(request("doomed", 10))
    engine.step()
    executor.broken[where, 2] = RuntimeError("device fell over")
    tokens, endings = drive(engine)
    assert endings == {"doomed": "RuntimeError: device fell over"}
    engine.add(request("next", 50))
    tokens, endings = drive(engine)
    assert tokens == {"next": list(range(55, 61))}
    assert endings == {"next": "length"}
    assert engine.stats().num_free_blocks == free


@pytest.mark.parametrize("depth", [1, 2])
def test_an_aborted_sequence_says_so_once_and_frees_its_blocks(depth: int) -> None:
    engine = engine_with(CountingExecutor(), depth)
    free = engine.stats().num_free_blocks
    engine.add(request("gone", 10, max_tokens=100))
    engine.add(request("stays", 30))
    for _ in range(3):
        engine.step()
    engine.abort("gone")
    engine.abort("gone")
    engine.abort("never was")
    _, endings = drive(engine)
    assert endings == {"gone": "abort", "stays": "length"}
    assert engine.stats().num_free_blocks == free
