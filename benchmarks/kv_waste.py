"""KV memory that is allocated and holds nothing: paged blocks, driven by the scheduler, beside reserving the maximum.

    python benchmarks/kv_waste.py [--requests 512] [--block-size 16] [--json]

A seeded mix of lengths (lognormal, mean input near 220 and output near 190 tokens, each at most 1,024) goes through the
real scheduler with an executor that answers at once. Waste is (allocated - filled) / allocated tokens, both summed over
all steps. The other allocator runs the same trace, step by step, and reserves for each sequence the longest it might
become.
"""

from __future__ import annotations

import argparse
import json
from collections import deque

import numpy as np

from jackfield.bench.lengths import length_mix
from jackfield.engine.messages import EngineRequest
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.step import Step, StepResult
from jackfield.sampling_params import SamplingParams

MAX_LEN = 1_024  # of an input, and of an output
SEED = 20
STOP = 1  # sampled where the mix says that an answer ends; all other samples are 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    mix = length_mix(arguments.requests, 220, 190, longest=MAX_LEN, seed=SEED)
    inputs, outputs = np.array(mix.lengths).T
    result = measure(inputs, outputs, arguments.block_size)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{arguments.requests} requests, mean input {inputs.mean():.0f}, mean output {outputs.mean():.0f} tokens")
    print(f"{'allocator':28}{'waste, time-averaged':>22}")
    print(f"{f'blocks of {arguments.block_size} tokens':28}{result['paged']:>22.2%}")
    print(f"{f'reserve {2 * MAX_LEN} tokens a row':28}{result['reserved']:>22.2%}")


def measure(inputs: np.ndarray, outputs: np.ndarray, block_size: int) -> dict[str, float]:
    """Waste of both allocators over one run, 64 sequences at a time."""
    longest = 2 * MAX_LEN
    group = KVGroup(window=None, block_size=block_size, num_blocks=64 * longest // block_size + 1)
    config = SchedulerConfig(
        max_num_seqs=64,
        max_num_batched_tokens=2_048,
        max_model_len=longest,
        groups=(group,),
        enable_prefix_caching=False,
    )
    scheduler, rng = Scheduler(config), np.random.default_rng(SEED)
    for number, length in enumerate(inputs):
        prompt = rng.integers(2, 1_000, length).tolist()
        scheduler.add(
            EngineRequest(str(number), prompt, SamplingParams(max_tokens=MAX_LEN), stop_token_ids=frozenset({STOP}))
        )
    ends = dict(enumerate((inputs + outputs).tolist()))
    slots: dict[int, int] = {}  # slot to request number
    filled = np.zeros(config.max_num_seqs, np.int64)  # tokens in the cache, by slot
    queue, totals = deque(range(len(inputs))), np.zeros(3)
    while scheduler.has_work:
        step = scheduler.schedule()
        assert step is not None
        for start in step.starts:  # first come, first served: nothing is preempted here
            slots[start.slot] = queue.popleft()
            filled[start.slot] = 0
        filled[step.slots] = step.num_computed + step.num_new
        stats = scheduler.stats()
        allocated = (stats.num_total_blocks - stats.num_free_blocks) * block_size
        held = filled[list(slots)].sum()
        totals += (allocated - held, allocated, len(slots) * longest)
        for output in scheduler.commit(step, answer(step, slots, ends)).each():
            if output.finish_reason is not None:
                del slots[next(slot for slot, number in slots.items() if number == int(output.id))]
    assert scheduler.stats().num_preemptions == 0
    wasted, paged, reserved = totals.tolist()
    return {"paged": wasted / paged, "reserved": 1 - (paged - wasted) / reserved}


def answer(step: Step, slots: dict[int, int], ends: dict[int, int]) -> StepResult:
    """The stop id for rows that have reached the length that the mix gave them."""
    lengths = (step.num_computed + step.num_new + 1)[step.samples].tolist()
    sampled = step.slots[step.samples].tolist()
    tokens = [STOP if length == ends[slots[slot]] else 0 for slot, length in zip(sampled, lengths, strict=True)]
    return StepResult(np.array(tokens, np.int32))


if __name__ == "__main__":
    main()
