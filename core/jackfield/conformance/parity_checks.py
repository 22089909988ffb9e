"""A whole model on the platform: each greedy token is the likeliest one of the float64 definition, and nothing is
captured late.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from jackfield.config.options import EngineOptions
from jackfield.conformance.random_llama import NEED, SIZES, logits, random_weights, write_checkpoint
from jackfield.engine.build import build_engine
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.testing.conformance.mismatch import expect
from jackfield_platforms.testing.conformance.subject import Subject

_NEAR_TIE = 1e-5  # logits closer than this in float64 may fall either way in float32
_PROMPTS = (1, 2, 17, 40, 90)  # lengths
_NEW_TOKENS = 20
_MIXED_REQUESTS = 30
_KINDS: tuple[dict[str, Any], ...] = (  # of sampling
    {"temperature": 0},
    {"temperature": 0.7, "min_p": 0.1},
    {"temperature": 1.0, "top_p": 0.9, "logprobs": 2},
    {"temperature": 0, "frequency_penalty": 0.5, "logit_bias": {3: 1.0}},
)
Prompts = list[list[int]]


def check_tokens_of_whole_prompts(float32_subject: Subject, seed: int, tmp_path: Path) -> None:
    """All prompts at once, then again with the prefix cache warm."""
    engine = _engine(float32_subject, seed, tmp_path)
    prompts = _prompts(seed, _PROMPTS)
    for _ in range(2):
        _compare(seed, prompts, _answers(engine, prompts, _NEW_TOKENS))


def check_tokens_of_chunked_prompts(float32_subject: Subject, seed: int, tmp_path: Path) -> None:
    """So few tokens a step that prompts are split where the platform's rules let them be."""
    rules = float32_subject.platform.capabilities().scheduling
    budget = max(16, rules.chunk_multiple) if rules.chunked else max(_PROMPTS)
    engine = _engine(float32_subject, seed, tmp_path, max_num_batched_tokens=budget)
    prompts = _prompts(seed, _PROMPTS)
    _compare(seed, prompts, _answers(engine, prompts, _NEW_TOKENS))


def check_tokens_of_preempted_sequences(float32_subject: Subject, seed: int, tmp_path: Path) -> None:
    """So few blocks that sequences are preempted and computed again."""
    backend = next((one for one in float32_subject.backends if one.objection(NEED) is None), None)
    assert backend is not None, f"no attention backend of {float32_subject.name!r} serves {NEED}"
    size = backend.block_sizes[0]
    prompts = _prompts(seed, [1, 3, 5, 7, 9])  # a block each, three at the end, and nine in all
    memory = 10 * SIZES.layers * backend.block_bytes(NEED.kv, size)
    options = {"kv_cache_memory": memory, "max_model_len": 3 * size, "enable_prefix_caching": False}
    engine = _engine(float32_subject, seed, tmp_path, **options)
    free = engine.stats().num_free_blocks
    answers = _answers(engine, prompts, 2 * size + 1)
    _compare(seed, prompts, answers)
    stats = engine.stats()
    expect(stats.num_preemptions > 0, f"no sequence was preempted with {stats.num_total_blocks} blocks")
    expect(stats.num_free_blocks == free, f"{free} blocks were free before, {stats.num_free_blocks} after")


def check_nothing_is_captured_after_the_warm_up(float32_subject: Subject, seed: int, tmp_path: Path) -> None:
    """Requests of many lengths and kinds come while others run: every step finds what was captured at the start, and
    the platform compiles nothing else.
    """
    engine = _engine(float32_subject, seed, tmp_path)
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 100, (_MIXED_REQUESTS, 2), generator=generator).tolist()
    for place, (prompt, new_tokens) in enumerate(lengths):
        params = SamplingParams(max_tokens=1 + new_tokens % 9, seed=0, **_KINDS[place % len(_KINDS)])
        engine.add(EngineRequest(str(place), _prompts(seed + place, [prompt])[0], params))
        engine.step()
    while engine.has_work:
        engine.step()
    stats = engine.stats()
    late, compiled = stats.num_late_captures, stats.num_late_compilations
    expect(late == 0, f"{late} sizes were captured after the warm-up, over {_MIXED_REQUESTS} requests")
    expect(compiled == 0, f"{compiled} programs were compiled after the warm-up, over {_MIXED_REQUESTS} requests")


def _engine(subject: Subject, seed: int, folder: Path, **options: Any) -> Engine:
    write_checkpoint(folder, random_weights(seed))
    given = {"max_num_batched_tokens": 256, "max_model_len": 128, "kv_cache_memory": 16 << 20, **options}
    return build_engine(
        EngineOptions(model=str(folder), platform=subject.name, dtype="float32", max_num_seqs=8, **given),
        progress=False,
    )


def _prompts(seed: int, lengths: Any) -> Prompts:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, SIZES.vocab, (length,), generator=generator).tolist() for length in lengths]


def _answers(engine: Engine, prompts: Prompts, new_tokens: int) -> Prompts:
    greedy = SamplingParams(temperature=0, max_tokens=new_tokens, seed=0)
    for place, prompt in enumerate(prompts):
        engine.add(EngineRequest(str(place), prompt, greedy))
    answers: Prompts = [[] for _ in prompts]
    while engine.has_work:
        for output in engine.step().each():
            answers[int(output.id)] += output.token_ids
            expect(output.error is None, f"prompt {output.id} ended with an error: {output.error}")
    return answers


def _compare(seed: int, prompts: Prompts, answers: Prompts) -> None:
    """Each token is the argmax after all before it."""
    weights = random_weights(seed)
    for prompt, answer in zip(prompts, answers, strict=True):
        expect(answer, f"a prompt of {len(prompt)} tokens got no answer")
        after = logits(weights, prompt + answer[:-1])[len(prompt) - 1 :]
        behind = after.amax(dim=1) - after.gather(1, torch.tensor(answer)[:, None])[:, 0]
        for place in torch.nonzero(behind > _NEAR_TIE).flatten().tolist()[:1]:
            raise_at = f"token {place} after a prompt of {len(prompt)}"
            wanted, found = int(after[place].argmax()), answer[place]
            expect(False, f"{raise_at}: wanted {wanted}, found {found}, whose logit is {behind[place]:.3g} lower")
