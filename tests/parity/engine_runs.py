"""Running a small model through the engine and comparing its answers with Hugging Face's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from small_models import NEW_TOKENS, SmallModel, float64_gap

from jackfield.config.options import EngineOptions
from jackfield.engine.build import build_engine
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams

NEAR_TIE = 1e-5  # logits closer than this in float64 may fall either way in float32
GREEDY = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, seed=0)
ALL = tuple(range(8))


def engine_for(small: SmallModel, **options: Any) -> Engine:
    """An engine over the small model in float32, found through the installed CPU plugin."""
    given = {"dtype": "float32", "platform": "cpu", "max_num_seqs": 16, "kv_cache_memory": 64 << 20, **options}
    return build_engine(EngineOptions(model=str(small.path), **given), progress=False)


def run(engine: Engine, small: SmallModel, prompts: Sequence[int] = ALL) -> dict[int, list[int]]:
    """Answer the prompts given by their places, all at once, in the order given."""
    for place in prompts:
        engine.add(EngineRequest(str(place), small.prompts[place], GREEDY))
    answers: dict[int, list[int]] = {place: [] for place in prompts}
    while engine.has_work:
        for output in engine.step().each():
            answers[int(output.id)] += output.token_ids
            assert output.finish_reason in (None, "length"), output
    return answers


def check(small: SmallModel, answers: dict[int, list[int]]) -> None:
    """Every answer equals Hugging Face's up to its first near tie, and near ties are rare enough to list."""
    for place, answer in answers.items():
        expected = small.answers[place]
        assert len(answer) == len(expected) == NEW_TOKENS
        if answer != expected:
            first = next(i for i in range(NEW_TOKENS) if answer[i] != expected[i])
            gap = float64_gap(small.twin, small.prompts[place] + expected[:first])
            assert gap < NEAR_TIE, f"{small.name}, prompt {place}: token {first} differs, float64 gap {gap:.2e}"
            print(f"near tie: {small.name}, prompt {place}, token {first}, float64 gap {gap:.2e}")
