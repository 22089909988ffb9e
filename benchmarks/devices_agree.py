"""The same mixed run on several platforms: do they give the same greedy tokens, and what did static shapes cost?

    python benchmarks/make_checkpoint.py qwen3-small FOLDER --dtype float32 --std 0.2
    python benchmarks/devices_agree.py FOLDER [--platforms cpu strict emulated] [--requests 500] [--json]

Requests of seeded lengths arrive a few a step; some are aborted on the way. Each platform runs in a process of its own,
since a process can emulate one device. The steps of the first are compared under every ladder of sizes. Where answers
differ, the distance of the two likeliest tokens at the first difference is computed in float64, by transformers. Exit
status 1 when it is not a tie of float32 (1e-5), or when anything was captured or compiled after the warm-up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from jackfield.bench.ladders import LadderUse, compare
from jackfield.bench.lengths import length_mix
from jackfield.config.options import EngineOptions
from jackfield.engine.build import build_engine
from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.bucket import Limits
from jackfield_platforms.buckets.trace import Trace

MAX_LEN, ROWS, TOKENS, BLOCK_SIZE = 512, 32, 256, 16
ARRIVALS = 4  # requests a step
NEAR_TIE = 1e-5  # logits closer than this in float64 may fall either way in float32
ABORTED = 17  # every so many-th request is aborted after its arrival


class Run(msgspec.Struct):
    """One platform's answers and counts."""

    platform: str
    seconds: float
    steps: int
    preemptions: int
    planned: int
    late_captures: int
    late_compilations: int
    misses: int
    token_waste: float
    prompts: dict[str, list[int]]
    answers: dict[str, list[int]]


def answer(model: Path, platform: str, count: int, trace: Path) -> Run:
    """Run all requests on one platform, writing down its steps."""
    engine = build_engine(
        EngineOptions(
            model=str(model),
            platform=platform,
            dtype="float32",
            max_model_len=MAX_LEN,
            max_num_seqs=ROWS,
            max_num_batched_tokens=TOKENS,
            block_size=BLOCK_SIZE,
            kv_cache_memory=3 << 20,
            target_step_seconds=0,
            forbid_compile=True,
            record_steps=str(trace),
        ),
        progress=False,
    )
    mix = length_mix(count, 80, 24, longest=300, seed=5)
    prompts = [mix.rng.integers(1, engine.model.vocab_size, length).tolist() for length, _ in mix.lengths]
    answers: dict[str, list[int]] = {str(place): [] for place in range(count) if place % ABORTED}
    waiting = list(range(count))[::-1]
    start = time.perf_counter()
    while waiting or engine.has_work:
        for place in [waiting.pop() for _ in range(min(ARRIVALS, len(waiting)))]:
            length = mix.lengths[place][1]
            engine.add(
                EngineRequest(str(place), prompts[place], SamplingParams(temperature=0, max_tokens=length, seed=0))
            )
        for output in engine.step().each():
            if output.finish_reason == "error":
                raise RuntimeError(f"request {output.id} failed: {output.error}")
            if output.id in answers:
                answers[output.id] += output.token_ids
            elif output.finish_reason is None:
                engine.abort(output.id)
    stats = engine.stats()
    real = sum(bucket.real_tokens for bucket in stats.buckets)
    return Run(
        platform=platform,
        seconds=round(time.perf_counter() - start, 1),
        steps=stats.num_steps,
        preemptions=stats.num_preemptions,
        planned=sum(bucket.bucket != "any" for bucket in stats.buckets),
        late_captures=stats.num_late_captures,
        late_compilations=stats.num_late_compilations,
        misses=sum(bucket.misses for bucket in stats.buckets),
        token_waste=round(1 - real / sum(bucket.padded_tokens for bucket in stats.buckets), 4),
        prompts={id: prompts[int(id)] for id in answers},
        answers=answers,
    )


def run_apart(model: Path, platform: str, count: int, trace: Path) -> Run:
    """`answer` in a process of its own."""
    words = [__file__, str(model), "--only", platform, "--requests", str(count), "--trace", str(trace)]
    said = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, check=True).stdout
    return msgspec.json.decode(said, type=Run)


def differences(model: Path, runs: list[Run]) -> dict[str, float]:
    """Answers that are not those of the first run, and the float64 distance of the two likeliest tokens there."""
    found = {}
    for run in runs[1:]:
        for id, answer in run.answers.items():
            first = runs[0].answers[id]
            if answer != first:
                place = next(i for i, pair in enumerate(zip(answer, first, strict=True)) if pair[0] != pair[1])
                found[f"{run.platform}: {id}"] = float64_gap(model, runs[0].prompts[id] + first[:place])
    return found


def float64_gap(model: Path, tokens: list[int]) -> float:
    """How far the likeliest token after `tokens` is ahead of the second, in logits."""
    import torch
    from transformers import AutoModelForCausalLM

    twin = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64)
    with torch.inference_mode():
        top = twin(torch.tensor([tokens])).logits[0, -1].topk(2).values
    return float(top[0] - top[1])


def report(runs: list[Run], ladders: list[LadderUse], different: dict[str, float]) -> None:
    """For people."""
    for run in runs:
        facts: dict[str, Any] = msgspec.structs.asdict(run)
        del facts["prompts"]
        facts["tokens"] = sum(map(len, facts.pop("answers").values()))
        print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"answers that differ from {runs[0].platform}'s: {different or 'none'} of {len(runs[0].answers)}")
    for use in ladders:
        print(", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(use).items()))


def main() -> int:
    """Compare, or run one platform for the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--platforms", nargs="+", default=["cpu", "strict", "emulated"])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--graphs", type=int, default=32, help="of the fitted ladder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        run = answer(options.model, options.only, options.requests, options.trace)
        sys.stdout.buffer.write(msgspec.json.encode(run))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        traces = [Path(folder) / f"{platform}.jsonl" for platform in options.platforms]
        pairs = zip(options.platforms, traces, strict=True)
        runs = [run_apart(options.model, platform, options.requests, trace) for platform, trace in pairs]
        limits = Limits(ROWS, TOKENS, MAX_LEN, BLOCK_SIZE)
        ladders = compare(limits, Trace.load(traces[0]), options.graphs)
    different = differences(options.model, runs)
    if options.json:
        print(json.dumps(msgspec.to_builtins({"runs": runs, "ladders": ladders, "different": different})))
    else:
        report(runs, ladders, different)
    late = any(run.late_captures or run.late_compilations or run.misses for run in runs)
    return int(late or any(gap >= NEAR_TIE for gap in different.values()))


if __name__ == "__main__":
    sys.exit(main())
