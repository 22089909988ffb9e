"""Offline throughput of a length mix, beside Hugging Face transformers on the same model, precision, threads and run.

    python benchmarks/offline_vs_transformers.py MODEL [--dtype bfloat16] [--requests 64] [--json FILE]

Jackfield answers all requests at once. transformers answers a part of them in static batches of 8, padded on the
left, each batch run to its longest answer, and a smaller part one at a time, since it would take hours otherwise. The
parts are interleaved. Tokens that were not asked for (beyond a request's own length in a padded batch) do not count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import AutoModelForCausalLM

from jackfield.bench.offline import measure, requests
from jackfield.config.options import EngineOptions
from jackfield.engine.build import build_engine
from jackfield.engine.messages import EngineRequest

BATCH = 8


class Line(msgspec.Struct):
    """What one way of serving did so far."""

    name: str
    num_requests: int = 0
    num_tokens: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Output tokens a second."""
        return self.num_tokens / self.seconds

    def add(self, wanted: Sequence[EngineRequest], seconds: float) -> None:
        """Count requests that took `seconds` together."""
        self.num_requests += len(wanted)
        self.num_tokens += sum(request.sampling.max_tokens or 0 for request in wanted)
        self.seconds += seconds
        print(
            f"{self.name}: {self.num_requests} requests, {self.num_tokens} tokens, {self.seconds:.1f} s, "
            f"{self.rate:.2f} tok/s",
            flush=True,
        )


def transformers_batch(model: Any, wanted: Sequence[EngineRequest]) -> float:
    """Seconds for one padded batch, greedy, run to its longest answer."""
    longest = max(len(request.prompt_token_ids) for request in wanted)
    ids = torch.zeros(len(wanted), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, request in enumerate(wanted):
        size = len(request.prompt_token_ids)
        ids[row, longest - size :] = torch.tensor(request.prompt_token_ids)
        mask[row, longest - size :] = 1
    most = max(request.sampling.max_tokens or 0 for request in wanted)
    start = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=mask, max_new_tokens=most, min_new_tokens=most, do_sample=False)
    assert out.shape[1] == longest + most
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--batched", type=int, default=24, help="requests that transformers answers in batches of 8")
    parser.add_argument("--single", type=int, default=8, help="requests that transformers answers one at a time")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    options = EngineOptions(
        model=str(arguments.model),
        dtype=arguments.dtype,
        max_num_seqs=arguments.requests,
        max_model_len=2048,
        target_step_seconds=0,
    )
    engine = build_engine(options)
    print(engine.startup_text)
    wanted = requests(engine, arguments.requests, 220, 190, seed=1)
    twin = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)).eval()
    twin.generation_config.pad_token_id, twin.generation_config.eos_token_id = 0, None
    static, single, ours = Line("transformers, batches of 8"), Line("transformers, one at a time"), Line("jackfield")
    batches = [wanted[first : first + BATCH] for first in range(0, arguments.batched, BATCH)]

    measure(engine, requests(engine, 2, 32, 8, seed=2))  # both warm
    transformers_batch(twin, requests(engine, 2, 32, 8, seed=3))
    static.add(batches[0], transformers_batch(twin, batches[0]))
    ours.add(wanted, measure(engine, wanted).seconds)
    for batch in batches[1:]:
        static.add(batch, transformers_batch(twin, batch))
    for request in wanted[: arguments.single]:
        single.add([request], transformers_batch(twin, [request]))
    print(
        f"jackfield / batches of 8: {ours.rate / static.rate:.2f}    "
        f"jackfield / one at a time: {ours.rate / single.rate:.2f}"
    )
    if arguments.json:
        lines = [{**msgspec.structs.asdict(line), "tokens_per_second": line.rate} for line in (ours, static, single)]
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(lines)))


if __name__ == "__main__":
    main()
