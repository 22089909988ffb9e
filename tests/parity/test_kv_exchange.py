"""A prompt computed by one engine is continued by another one of other blocks, on another platform."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from engine_runs import GREEDY, check, engine_for, run
from small_models import NEW_TOKENS, SmallModel

from jackfield.engine.cached_prefixes import ExportedPrefix
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest

pytestmark = pytest.mark.parametrize("small", ["llama", "qwen3-hybrid", "deepseek"], indirect=True, scope="session")

PLACE = 4  # a prompt of 130 tokens
STRICT = {"max_num_batched_tokens": 64, "max_num_seqs": 2, "max_model_len": 256}
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "small to large blocks": ({"block_size": 16}, {"block_size": 32}),
    "large to small blocks": ({"block_size": 32}, {"block_size": 16}),
    "to the strict device": ({"block_size": 16}, {"platform": "strict", "block_size": 32, **STRICT}),
    "from the strict device": ({"platform": "strict", "block_size": 32, **STRICT}, {"block_size": 16}),
}


def computed(engine: Engine) -> tuple[int, int]:
    """(prompt tokens that the prefix cache had, prompt tokens that were computed)."""
    stats = engine.stats()
    return stats.num_prefix_hit_tokens, stats.num_prefix_queried_tokens - stats.num_prefix_hit_tokens


def corrupted(prefix: ExportedPrefix) -> ExportedPrefix:
    """With the layers in reverse. Tokens in reverse would answer alike: keys are rotated already, and all are seen."""
    groups = [replace(g, tensors={name: x.flip(0) for name, x in g.tensors.items()}) for g in prefix.groups]
    return replace(prefix, groups=tuple(groups))


@pytest.mark.parametrize("pair", PAIRS)
def test_the_answer_goes_on_where_the_prompt_was_not_computed(small: SmallModel, pair: str) -> None:
    if small.name == "qwen3-hybrid" and "to large" not in pair:
        pytest.skip("windows are asked once: their blocks are the same everywhere")
    first, second = PAIRS[pair]
    source, target = engine_for(small, **first), engine_for(small, **second)
    answer = run(source, small, [PLACE])
    check(small, answer)
    prompt = small.prompts[PLACE]
    prefix = source.export_kv(prompt)
    assert len(prefix.token_ids) == 128
    free = target.stats().num_free_blocks
    assert target.import_kv(prefix) == 128
    assert target.stats().num_free_blocks == free, "cached blocks count as free"
    assert run(target, small, [PLACE]) == answer
    assert computed(target) == (128, len(prompt) - 128)


def test_a_wrong_import_gives_other_tokens(small: SmallModel) -> None:
    source, target = engine_for(small, block_size=16), engine_for(small, block_size=32)
    answer = run(source, small, [PLACE])
    assert target.import_kv(corrupted(source.export_kv(small.prompts[PLACE]))) == 128
    wrong = run(target, small, [PLACE])
    assert len(wrong[PLACE]) == NEW_TOKENS
    assert wrong != answer


def test_what_is_imported_can_be_exported_again(small: SmallModel) -> None:
    first, second, third = (engine_for(small, block_size=size) for size in (32, 64, 16))
    answer = run(first, small, [PLACE])
    once = first.export_kv(small.prompts[PLACE])
    second.import_kv(once)
    twice = second.export_kv(small.prompts[PLACE])
    assert twice.token_ids == once.token_ids
    for one, other in zip(once.groups, twice.groups, strict=True):
        held = other.header.num_tokens
        assert all(torch.equal(x, one.tensors[name][:, -held:]) for name, x in other.tensors.items())
    third.import_kv(twice)
    assert run(third, small, [PLACE]) == answer


def test_an_import_between_steps_disturbs_nobody(small: SmallModel) -> None:
    source, target = engine_for(small, block_size=16), engine_for(small, block_size=32, overlap="on")
    run(source, small, [PLACE])
    target.add(EngineRequest("3", small.prompts[3], GREEDY))
    answers: dict[int, list[int]] = {3: [], PLACE: []}
    for number in range(1000):
        if number == 5:  # a step is in flight
            assert target.import_kv(source.export_kv(small.prompts[PLACE])) == 128
            target.add(EngineRequest(str(PLACE), small.prompts[PLACE], GREEDY))
        if not target.has_work:
            break
        for output in target.step().each():
            answers[int(output.id)] += output.token_ids
    check(small, answers)
    assert target.stats().num_prefix_hit_tokens == 128
