"""Host time of the scheduler: microseconds of schedule + commit a step, against an executor that answers at once.

    python benchmarks/host_schedule.py [--steps 3000] [--json]

The bar is 200 + 1 n microseconds at n running sequences. "steady": n sequences decode, at random places within
their blocks. "churn": a closed loop of n clients with short prompts and answers, so that sequences start and end in
most steps.
"""

from __future__ import annotations

import argparse
import json
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np

from jackfield.engine.messages import EngineRequest
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.step import Step, StepResult
from jackfield.sampling_params import SamplingParams

SIZES = (1, 64, 256)
VOCABULARY, STOP_IDS = 32_000, frozenset({40_000, 40_001})  # never sampled
MAX_MODEL_LEN = 8_192
WARM_UP_STEPS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = [
        {"load": load, "sequences": n, "bar_us": 200 + n, **measure(n, arguments.steps, churn=load == "churn")}
        for load in ("steady", "churn")
        for n in SIZES
    ]
    if arguments.json:
        print(json.dumps(results))
        return
    print(f"{'load':8}{'sequences':>10}{'p50 us':>10}{'p90 us':>10}{'p99 us':>10}{'bar us':>10}")
    for row in results:
        print("{load:8}{sequences:>10}{p50_us:>10.0f}{p90_us:>10.0f}{p99_us:>10.0f}{bar_us:>10}".format(**row))


def measure(num_sequences: int, num_steps: int, *, churn: bool) -> dict[str, Any]:
    """Percentiles of the microseconds that schedule and commit take together, over `num_steps` steps after warm-up."""
    rng = np.random.default_rng(7)
    group = KVGroup(window=None, block_size=16, num_blocks=num_sequences * MAX_MODEL_LEN // 16 + 1)
    scheduler = Scheduler(
        SchedulerConfig(max_num_seqs=256, max_num_batched_tokens=8_192, max_model_len=MAX_MODEL_LEN, groups=(group,))
    )
    max_tokens = 60 if churn else WARM_UP_STEPS + num_steps + 2_000

    def request(number: int) -> EngineRequest:
        prompt = rng.integers(0, VOCABULARY, int(rng.integers(1, 160))).tolist()
        length = int(rng.integers(2, max_tokens)) if churn else max_tokens
        return EngineRequest(str(number), prompt, SamplingParams(max_tokens=length), STOP_IDS)

    num_added = 0
    microseconds = []
    for _ in range(WARM_UP_STEPS + num_steps):
        waiting = num_sequences - (stats := scheduler.stats()).num_running - stats.num_waiting
        for _ in range(waiting):
            scheduler.add(request(num_added))
            num_added += 1
        started = perf_counter()
        step = scheduler.schedule()
        scheduled = perf_counter()
        assert step is not None
        result = sample(step, rng)
        answered = perf_counter()
        scheduler.commit(step, result)
        microseconds.append(1e6 * (perf_counter() - answered + scheduled - started))
    measured = microseconds[WARM_UP_STEPS:]
    percentiles = quantiles(measured, n=100)
    return {"p50_us": median(measured), "p90_us": percentiles[89], "p99_us": percentiles[98]}


def sample(step: Step, rng: np.random.Generator) -> StepResult:
    """Random ids for every sampling row: the executor that costs nothing."""
    return StepResult(rng.integers(0, VOCABULARY, int(step.samples.sum()), dtype=np.int32))


if __name__ == "__main__":
    main()
