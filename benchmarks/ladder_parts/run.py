"""The steps that the scheduler makes of a seeded mix of requests, without a model."""

from __future__ import annotations

import numpy as np

from jackfield.bench.lengths import length_mix
from jackfield.engine.messages import EngineRequest
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.step import StepResult
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.bucket import RowSizes
from jackfield_platforms.buckets.trace import Trace
from ladder_parts.styles import Style

PROMPT, ANSWER, LONGEST = 220, 190, 1024  # tokens: means, and the most of either
ARRIVALS = 0.22  # requests a step, Poisson: some 45 of 64 rows are taken


def run(style: Style, count: int, seed: int) -> Trace:
    """Every step until the last of `count` requests is answered; each answer is as long as the mix says."""
    limits, mix = style.limits, length_mix(count, PROMPT, ANSWER, longest=LONGEST, seed=seed)
    scheduler = Scheduler(
        SchedulerConfig(
            max_num_seqs=limits.max_rows,
            max_num_batched_tokens=limits.max_tokens,
            max_model_len=limits.max_model_len,
            groups=(KVGroup(None, limits.block_size, limits.max_rows * limits.max_blocks + 1),),
            rules=style.rules,
            enable_prefix_caching=False,
        )
    )
    waiting = [_request(place, *lengths) for place, lengths in enumerate(mix.lengths)][::-1]
    steps: list[RowSizes] = []
    while waiting or scheduler.has_work:
        for _ in range(min(int(mix.rng.poisson(ARRIVALS)), len(waiting))):
            scheduler.add(waiting.pop())
        step = scheduler.schedule()
        if step is not None:
            steps.append(RowSizes(step.num_new.copy(), step.num_computed + step.num_new))
            scheduler.commit(step, StepResult(np.zeros(int(step.samples.sum()), np.int32)))
    return Trace(tuple(steps))


def _request(place: int, prompt: int, answer: int) -> EngineRequest:
    sampling = SamplingParams(temperature=0, max_tokens=answer, ignore_eos=True, seed=0)
    return EngineRequest(str(place), [1] * prompt, sampling)
