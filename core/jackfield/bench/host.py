"""What a step costs beside the model, and whether the overlapped loop hides it behind the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import msgspec

from jackfield.bench.null_model import VOCAB, null_model
from jackfield.bench.stub_executor import LaunchOnly, StubExecutor
from jackfield.bench.text_cost import TextSink
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineOutputs, EngineRequest
from jackfield.engine.model_info import ModelInfo
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.step import Executor
from jackfield.runner.attention_groups import make_groups
from jackfield.runner.model_runner import ModelRunner
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.loading import load
from jackfield_platforms.selection import find

_PROMPT_LEN, _MAX_LEN, _WARM_STEPS = 200, 4096, 20
_DEVICE_SECONDS, _HOST_SECONDS = 0.010, 0.005


class HostCost(msgspec.Struct, frozen=True):
    """Medians over the steps of a steady decode, in microseconds; each figure includes the one before it."""

    num_seqs: int
    num_steps: int
    schedule_commit_us: float  # with a stub executor
    with_inputs_us: float  # ... and inputs, attention plan, sampling parameters, for a model that computes nothing
    with_text_us: float  # ... and detokenising and server-sent events for every sequence
    with_sampling_us: float  # ... and the sampler's own arithmetic over 64 zero logits a sequence
    overlapped_steps_per_second: float  # steps of 10 ms on an emulated device, 5 ms of host work beside each


def run(*, num_seqs: int, num_steps: int) -> HostCost:
    """Measure with half the sequences greedy and half sampled at top-p 0.9."""
    blocks = num_seqs * (_MAX_LEN // 16) + 1
    runner = _null_runner(num_seqs, blocks)
    text = TextSink(num_seqs)
    runner = _null_runner(num_seqs, blocks)
    stub = _engine(StubExecutor(), num_seqs, blocks)
    launched = _engine(LaunchOnly(runner), num_seqs, blocks)
    written = _engine(LaunchOnly(_null_runner(num_seqs, blocks)), num_seqs, blocks)
    sampled = _engine(_null_runner(num_seqs, blocks), num_seqs, blocks)
    return HostCost(
        num_seqs=num_seqs,
        num_steps=num_steps,
        schedule_commit_us=_median_us(stub.step, num_steps),
        with_inputs_us=_median_us(launched.step, num_steps),
        with_text_us=_median_us(_with_text(written, text), num_steps),
        with_sampling_us=_median_us(_with_text(sampled, text), num_steps),
        overlapped_steps_per_second=_overlapped(num_seqs, blocks, min(num_steps, 300)),
    )


def _median_us(step: Callable[[], EngineOutputs], num_steps: int) -> float:
    for _ in range(_WARM_STEPS):
        step()
    times = []
    for _ in range(num_steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1e6, 1)


def _with_text(engine: Engine, text: TextSink) -> Callable[[], EngineOutputs]:
    def step() -> EngineOutputs:
        outputs = engine.step()
        text.take(outputs)
        return outputs

    return step


def _overlapped(num_seqs: int, blocks: int, num_steps: int) -> float:
    engine = _engine(StubExecutor(_DEVICE_SECONDS), num_seqs, blocks, depth=2)
    for _ in range(_WARM_STEPS):
        engine.step()
    start = time.perf_counter()
    for _ in range(num_steps):
        engine.step()
        _busy(_HOST_SECONDS)
    return round(num_steps / (time.perf_counter() - start), 1)


def _busy(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def _engine(executor: Executor, num_seqs: int, blocks: int, *, depth: int = 1) -> Engine:
    """An engine in which `num_seqs` sequences decode."""
    config = SchedulerConfig(
        max_num_seqs=num_seqs,
        max_num_batched_tokens=max(num_seqs, 8192),
        max_model_len=_MAX_LEN,
        groups=(KVGroup(None, 16, blocks),),
    )
    info = ModelInfo(name="null", max_model_len=_MAX_LEN, vocab_size=VOCAB, eos_token_ids=frozenset(), tokenizer="")
    engine = Engine(Scheduler(config), executor, info, depth=depth)
    for index in range(num_seqs):
        sampling = SamplingParams(temperature=index % 2, top_p=0.9, seed=index, max_tokens=_MAX_LEN - _PROMPT_LEN)
        engine.add(EngineRequest(str(index), [index % VOCAB] * _PROMPT_LEN, sampling))
    return engine


def _null_runner(num_seqs: int, blocks: int) -> ModelRunner:
    found = find(None)
    plugins = load(found.name)
    platform = plugins.platform(found.name)
    model = null_model(platform, _MAX_LEN)
    backends = plugins.attention_backends(platform)
    groups = make_groups(model.attention_needs(), backends, 16, device=model.build.device, ops=model.build.ops)
    limits = Limits(num_seqs, max(num_seqs, 8192), _MAX_LEN)
    return ModelRunner(model, platform, groups, [blocks], limits, buckets=BucketPlan())
