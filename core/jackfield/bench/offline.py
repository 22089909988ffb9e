"""Throughput of prompts that are all there from the start."""

from __future__ import annotations

import time

import msgspec

from jackfield.bench.lengths import length_mix
from jackfield.config.options import EngineOptions
from jackfield.engine.build import build_engine
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams


class Throughput(msgspec.Struct, frozen=True):
    """One run; tokens per second of wall time, from the first request to the last token."""

    num_prompts: int
    num_prompt_tokens: int
    num_output_tokens: int
    seconds: float
    output_tokens_per_second: float
    total_tokens_per_second: float
    num_steps: int
    num_preemptions: int


def run(options: EngineOptions, *, num_prompts: int, input_len: int, output_len: int) -> Throughput:
    """Answer a seeded mix of lengths, lognormal around the two means, greedily and without regard to end tokens."""
    if options.target_step_seconds is None:
        options = msgspec.structs.replace(options, target_step_seconds=0)
    engine = build_engine(options)
    return measure(engine, requests(engine, num_prompts, input_len, output_len, options.seed))


def requests(engine: Engine, count: int, input_len: int, output_len: int, seed: int) -> list[EngineRequest]:
    """Random prompts of the mix, greedy, each with its own number of tokens to generate."""
    model = engine.model
    longest = min(1024, model.max_model_len // 2)
    mix = length_mix(count, input_len, output_len, longest=longest, seed=seed)
    rng = mix.rng
    return [
        EngineRequest(
            f"bench-{index}",
            rng.integers(0, model.vocab_size, prompt_len).tolist(),
            SamplingParams(temperature=0, max_tokens=output, ignore_eos=True, seed=0),
        )
        for index, (prompt_len, output) in enumerate(mix.lengths)
    ]


def measure(engine: Engine, requests: list[EngineRequest]) -> Throughput:
    """Give all requests at once and time them to the last token."""
    before = engine.stats()
    start = time.perf_counter()
    for request in requests:
        engine.add(request)
    while engine.has_work:
        for output in engine.step().others:
            if output.finish_reason == "error":
                raise RuntimeError(f"request {output.id} failed: {output.error}")
    seconds = time.perf_counter() - start
    after = engine.stats()
    num_prompt = sum(len(request.prompt_token_ids) for request in requests)
    num_output = after.num_generated_tokens - before.num_generated_tokens
    return Throughput(
        num_prompts=len(requests),
        num_prompt_tokens=num_prompt,
        num_output_tokens=num_output,
        seconds=round(seconds, 2),
        output_tokens_per_second=round(num_output / seconds, 2),
        total_tokens_per_second=round((num_prompt + num_output) / seconds, 2),
        num_steps=after.num_steps - before.num_steps,
        num_preemptions=after.num_preemptions - before.num_preemptions,
    )
