"""A small model's configuration, a plugin around a platform class, and greedy answers of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform
from jackfield_quantization.unquantized import Unquantized

FIELDS: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "vocab_size": 211,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
PROMPTS = ([7, 3, 150, 9], [88], list(range(20, 57)), [5, 6] * 8)  # the third takes two steps


class Hooks:
    """The plugin of one platform."""

    def __init__(self, platform: type[Platform]) -> None:
        self._platform = platform

    @hookimpl
    def platforms(self):
        return {self._platform.name: self._platform}

    @hookimpl
    def quant_methods(self):
        return {"unquantized": Unquantized}


def answers(engine: Engine, prompts: Sequence[list[int]] = PROMPTS, num_tokens: int = 24) -> list[list[int]]:
    """Greedy tokens for each prompt, all of them asked at once."""
    for place, prompt in enumerate(prompts):
        engine.add(EngineRequest(str(place), prompt, SamplingParams(temperature=0, max_tokens=num_tokens, seed=0)))
    return finish(engine, len(prompts))


def finish(engine: Engine, count: int) -> list[list[int]]:
    """Run until all is answered; tokens of requests "0", "1", …"""
    found: dict[str, list[int]] = {str(place): [] for place in range(count)}
    while engine.has_work:
        for output in engine.step().each():
            assert output.error is None, output.error
            found[output.id] += output.token_ids
    return list(found.values())
