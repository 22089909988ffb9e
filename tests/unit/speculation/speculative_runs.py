"""Small random models, requests of every kind, and what an engine answers to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch

from jackfield.config.options import EngineOptions
from jackfield.conformance.random_llama import SIZES, random_weights, write_checkpoint
from jackfield.engine.build import build_engine
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams

SIZE = {"max_num_seqs": 4, "max_num_batched_tokens": 64, "max_model_len": 144, "kv_cache_memory": 8 << 20}


class Models(msgspec.Struct, frozen=True):
    """A target, a model that agrees with it often, and one that never saw it."""

    target: str
    near: str
    other: str


class Answer(msgspec.Struct):
    """All that came for one request."""

    token_ids: list[int] = []
    logprobs: list[float] = []
    finish_reason: str | None = None
    stop_reason: int | None = None


def make_models(folder: Path) -> Models:
    """Write the three checkpoints."""
    target = random_weights(1)
    noise = torch.randn(target["lm_head.weight"].shape, generator=torch.Generator().manual_seed(2))
    near = {**target, "lm_head.weight": target["lm_head.weight"] + 0.03 * noise}
    paths = {}
    for name, weights in {"target": target, "near": near, "other": random_weights(3)}.items():
        path = folder / name
        path.mkdir()
        write_checkpoint(path, weights)
        paths[name] = str(path)
    return Models(**paths)


def engine_for(model: str, platform: str, speculation: dict[str, Any] | None = None, **options: Any) -> Engine:
    """An engine in float32."""
    given = {**SIZE, "forbid_compile": platform == "strict", **options}
    chosen = EngineOptions(model=model, platform=platform, dtype="float32", speculative_config=speculation, **given)
    return build_engine(chosen, progress=False)


def sampling_kinds() -> list[SamplingParams]:
    """One of each kind that changes what is sampled or when it ends."""
    greedy: dict[str, Any] = {"temperature": 0.0, "max_tokens": 40, "seed": 0}
    return [
        SamplingParams(**greedy),
        SamplingParams(temperature=0.2, seed=11, max_tokens=40),
        SamplingParams(temperature=0.3, top_p=0.8, seed=12, max_tokens=33),
        SamplingParams(temperature=0.4, top_k=4, min_p=0.01, seed=13, max_tokens=40),
        SamplingParams(**{**greedy, "max_tokens": 1}),
        SamplingParams(**{**greedy, "max_tokens": 2}),
        SamplingParams(**greedy, frequency_penalty=0.7, presence_penalty=0.2),
        SamplingParams(temperature=0.3, seed=14, repetition_penalty=1.2, max_tokens=24),
        SamplingParams(**greedy, logit_bias={3: 2.0, 9: -3.0}),
        SamplingParams(**greedy, allowed_token_ids=list(range(0, 199, 3))),
        SamplingParams(**greedy, min_tokens=25),
        SamplingParams(temperature=0.25, seed=15, min_tokens=7, max_tokens=40, logprobs=2),
        SamplingParams(**greedy, logprobs=0),
        SamplingParams(**{**greedy, "max_tokens": None}),
    ]


def requests(count: int) -> list[EngineRequest]:
    """Prompts of 1 to 90 tokens; some repeat themselves, some begin like others; some end at common tokens."""
    generator = torch.Generator().manual_seed(7)
    made, kinds = [], sampling_kinds()
    for number in range(count):
        length = int(torch.randint(1, 90, (), generator=generator))
        prompt = torch.randint(1, SIZES.vocab, (length,), generator=generator).tolist()
        if number % 3 == 1:
            prompt = (prompt[:7] * 12)[:length]
        if number % 3 == 2:
            prompt = (made[-1].prompt_token_ids + prompt)[:100]
        stops = frozenset(range(number % 5, SIZES.vocab, 23)) if number % 2 else frozenset()
        made.append(EngineRequest(str(number), prompt, kinds[number % len(kinds)], stops))
    return made


def run(engine: Engine, asked: list[EngineRequest]) -> dict[str, Answer]:
    """Answer them: the first half at once, the others one by one while those run."""
    answers = {request.id: Answer() for request in asked}
    waiting = list(asked)
    for _ in range(len(asked) // 2):
        engine.add(waiting.pop(0))
    while waiting or engine.has_work:
        if waiting:
            engine.add(waiting.pop(0))
        for output in engine.step().each():
            answer = answers[output.id]
            answer.token_ids += output.token_ids
            answer.logprobs += [one.logprob for one in output.logprobs or []]
            assert output.error is None
            answer.finish_reason, answer.stop_reason = output.finish_reason, output.stop_reason
    return answers


def difference(found: dict[str, Answer], wanted: dict[str, Answer]) -> str | None:
    """The first answer that is not the wanted one, or None."""
    for name, answer in wanted.items():
        one = found[name]
        same = (one.token_ids, one.finish_reason, one.stop_reason) == (
            answer.token_ids,
            answer.finish_reason,
            answer.stop_reason,
        )
        if not same:
            return f"request {name}: {one} instead of {answer}"
        gaps = [abs(a - b) for a, b in zip(one.logprobs, answer.logprobs, strict=True)]
        if max(gaps, default=0.0) > 1e-4:
            return f"request {name}: logprobs {one.logprobs} instead of {answer.logprobs}"
    return None
