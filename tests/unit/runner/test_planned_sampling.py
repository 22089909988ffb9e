"""On a device of static shapes nothing runs between programs, and answers are those of any size."""

from __future__ import annotations

from typing import Any

import pytest
from sized_platforms import KINDS, AnySize, Static
from small_engines import PROMPTS, finish

from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.runner.late_compilations import LateCompilationError, LateCompilations
from jackfield.runner.planned_sampling import PlannedSampling
from jackfield.sampling_params import SamplingParams


def answers(engine: Engine, count: int = 24) -> list[list[int]]:
    """Requests of all kinds that come one after another, so that steps have all sorts of rows."""
    for place in range(count):
        kind = KINDS[place % len(KINDS)]
        sampling = SamplingParams(max_tokens=2 + place % 7, seed=place, **kind)
        engine.add(EngineRequest(str(place), PROMPTS[place % len(PROMPTS)], sampling))
    return finish(engine, count)


def test_nothing_is_compiled_after_the_warm_up_whatever_is_asked(engine_on):
    engine = engine_on(Static, forbid_compile=True)
    device = engine._executor._platform.torch_device
    assert isinstance(engine._executor._sampling, PlannedSampling)
    compiled, ops = len(device.compiled), device.ops.total()
    assert compiled > 100
    static = answers(engine)
    assert device.ops.total() > ops + 1000
    assert len(device.compiled) == compiled
    assert engine.stats().num_late_compilations == 0
    assert static == answers(engine_on(AnySize))


def test_nothing_but_copies_runs_between_programs(engine_on):
    engine = engine_on(Static)
    device, graphs = engine._executor._platform.torch_device, engine._executor._platform.graphs
    stray: list[dict[str, int]] = []
    seen = device.ops.copy()
    run = graphs.run

    def watched(*args: Any) -> Any:
        stray.append(dict(device.ops - seen))
        result = run(*args)
        seen.clear()
        seen.update(device.ops)
        return result

    graphs.run = watched
    answers(engine)
    assert len(stray) > 100
    assert [ops for ops in stray if ops] == []


def test_speculation_at_fixed_sizes_gives_the_same_tokens(engine_on):
    drafts = {"method": "ngram", "num_speculative_tokens": 3}
    prompts = [[5, 6, 7] * 6, [9, 8] * 5]

    def run(platform: Any, **options: Any) -> tuple[list[list[int]], Engine]:
        engine = engine_on(platform, **options)
        for place, prompt in enumerate(prompts):
            sampling = SamplingParams(temperature=0, max_tokens=20, seed=0, repetition_penalty=1.1 if place else 1.0)
            engine.add(EngineRequest(str(place), prompt, sampling))
        return finish(engine, len(prompts)), engine

    wanted, _ = run(AnySize)
    found, engine = run(Static, speculative_config=drafts, forbid_compile=True)
    assert found == wanted
    stats = engine.stats()
    assert stats.num_draft_tokens > 0
    assert stats.num_late_compilations == stats.num_late_captures == 0


def test_late_compilations_are_counted_named_and_forbidden(caplog):
    compiled = [3]
    late = LateCompilations(lambda: compiled[0])
    late.check("the warm-up", forbidden=True)
    compiled[0] = 5
    late.begin()
    late.check("a step", forbidden=True)
    compiled[0] = 7
    late.check("a step of 3 rows", forbidden=False)
    assert late.count == 2
    assert "2 programs were compiled after the warm-up, for a step of 3 rows" in caplog.text
    compiled[0] = 8
    with pytest.raises(LateCompilationError, match="1 programs were compiled after the warm-up, for sampling"):
        late.check("sampling", forbidden=True)
    assert late.count == 3


def test_a_platform_that_does_not_say_counts_nothing():
    late = LateCompilations(lambda: None)
    late.begin()
    late.check("a step", forbidden=True)
    assert late.count == 0
