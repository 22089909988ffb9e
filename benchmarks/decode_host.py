"""Where the time of a decode step goes on the CPU: microseconds in the kernels, and in Python beside them.

    python benchmarks/decode_host.py [--model FOLDER] [--dtype bfloat16] [--sequences 1 8 32] [--steps 200] [--json]

Greedy sequences decode in one process with text, without a server. Each part is a median over the steps, and holds the
kernels that it calls; "native" is what all kernels of a step took, "host" what is left of the step beside them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from statistics import median
from time import perf_counter
from typing import Any

import jackfield_cpu.kernels as kernels
from jackfield import LLM, SamplingParams
from jackfield.frontend.prompt import parse_prompts

PROMPT_TOKENS, WARM_UP_STEPS = 48, 20
PARTS = ("schedule", "inputs", "forward", "logits", "sampling", "commit", "text", "native", "step")


class Clock:
    """Seconds that functions took since they were last asked for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the time of its calls added to `name`."""

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            start = perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds[name] += perf_counter() - start

        return call

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Time a method of an object, or of a class."""
        setattr(owner, method, self.timed(name, getattr(owner, method)))

    def take(self) -> dict[str, float]:
        """What was added up, which is forgotten."""
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


class TimedLibrary:
    """The kernels' library, each of its functions timed as "native"."""

    def __init__(self, library: Any, clock: Clock) -> None:
        self._library, self._clock = library, clock

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        timed = self._clock.timed("native", lambda *args: function(*args))
        setattr(self, name, timed)
        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder; the embedded model without one")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--load-format", default="auto")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    clock = Clock()
    time_kernels(clock)
    llm = LLM(
        arguments.model,
        dtype=arguments.dtype,
        load_format=arguments.load_format,
        max_num_seqs=max(arguments.sequences),
        max_model_len=PROMPT_TOKENS + WARM_UP_STEPS + arguments.steps + 8,
        enable_prefix_caching=False,
    )
    results = [measure(llm, clock, count, arguments.steps) for count in arguments.sequences]
    if arguments.json:
        print(json.dumps(results))
        return
    columns = ["sequences", *PARTS, "host"]
    print("".join(f"{column:>10}" for column in columns))
    for row in results:
        print("".join(f"{row[column]:>10.0f}" for column in columns))


def time_kernels(clock: Clock) -> None:
    """Let the plugin find kernels whose calls are timed."""
    found = kernels.load(kernels.LIBRARY, "", kernels.torch.get_num_threads())
    if isinstance(found, str):
        raise SystemExit(f"no kernels to time: {found}")
    timed = kernels.Kernels(found.name, TimedLibrary(found.library, clock))
    from jackfield_cpu import native_attention, platform

    native_attention.kernels = platform.kernels = lambda: timed


def measure(llm: LLM, clock: Clock, num_sequences: int, num_steps: int) -> dict[str, float]:
    """Medians in microseconds over steps in which all sequences decode."""
    engine = llm.engine
    runner, scheduler = engine._executor, engine._scheduler
    watched = [
        (scheduler, "schedule", "schedule"), (runner, "_inputs", "inputs"), (runner._programs, "_plan", "inputs"),
        (runner._programs, "hidden", "forward"), (runner, "_logits", "logits"), (runner, "sample", "sampling"),
        (scheduler, "commit", "commit"), (llm._processor, "process", "text"), (engine, "step", "step"),
    ]  # fmt: skip
    for owner, method, name in watched:
        clock.watch(owner, method, name)
    steps = []
    vocabulary = engine.model.vocab_size
    rows = range(num_sequences)
    prompts = [[(13 * n + 7 * i) % (vocabulary - 300) + 200 for i in range(PROMPT_TOKENS)] for n in rows]
    sampling = SamplingParams(temperature=0, max_tokens=num_steps + WARM_UP_STEPS, ignore_eos=True)
    parsed = parse_prompts([{"prompt_token_ids": prompt} for prompt in prompts])
    states = [llm._state(prompt, sampling, 0) for prompt in parsed]
    clock.take()
    for _ in llm._updates(states):
        steps.append(clock.take())
    for owner, method, _ in watched:
        delattr(owner, method)
    measured = steps[WARM_UP_STEPS:-1]
    for step in measured:
        step["sampling"] -= step["logits"]
        step["host"] = step["step"] + step["text"] - step["native"]
    row = {name: 1e6 * median(step.get(name, 0.0) for step in measured) for name in (*PARTS, "host")}
    return {"sequences": num_sequences, **row}


if __name__ == "__main__":
    main()
