"""Whole models: a decode step with and without graphs and overlap, and a mix of lengths."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from gpu_parts.sizes import Sizes
from gpu_parts.speed import Clock, Speed
from jackfield.bench import offline
from jackfield.config.options import EngineOptions
from jackfield.engine.build import build_engine
from jackfield.engine.messages import EngineRequest
from jackfield.runner.pending_step import PendingStep
from jackfield.sampling_params import SamplingParams
from jackfield_gpu.platform import GpuPlatform
from jackfield_platforms.bucket import BucketPlan
from jackfield_platforms.graph import EagerRunner

CONTEXT = 128  # tokens of a sequence while it is timed, about


def model(platform: GpuPlatform, speed: Speed, clock: Clock, sizes: Sizes) -> list[dict[str, Any]]:
    """Milliseconds of a decode step, and the floor's share of them."""
    print("decode step, ms (share of the floor; host microseconds, waits for the device left out):")
    found = []
    for name in sizes.shapes:
        for graphs in (True, False):
            for overlap in ("on", "off"):
                label = f"{name}, {'graphs' if graphs else 'no graphs'}, overlap {overlap}"
                if clock.has(40 if name == "0.6B" else 60, label):
                    found += steps(platform, speed, sizes, name, graphs=graphs, overlap=overlap)
    return found


def steps(
    platform: GpuPlatform, speed: Speed, sizes: Sizes, name: str, *, graphs: bool, overlap: str
) -> list[dict[str, Any]]:
    shape, found = sizes.shapes[name], []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(shape))
        engine = engine_of(platform, folder, sizes.dtype, graphs=graphs, overlap=overlap)
        for batch in sizes.model_batches:
            walls, hosts = decode(engine, batch, sizes.tokens, shape["vocab_size"])
            weights = sizes.number * weights_read(shape)
            token_bytes = 2 * shape["num_key_value_heads"] * shape["head_dim"] * sizes.number
            floor = (weights + batch * CONTEXT * token_bytes * shape["num_hidden_layers"]) / speed.bytes_s
            step, host = median(walls), median(hosts)
            line = {"model": name, "batch": batch, "graphs": graphs, "overlap": overlap, "seconds": step}
            found.append({**line, "floor": floor, "host": host})
            print(
                f"  {name:>5} batch {batch:>3}, {'graphs   ' if graphs else 'no graphs'}, overlap {overlap:<3}"
                f"  {1e3 * step:7.2f} ({floor / step:.2f}; {1e6 * host:.0f})"
            )
        engine.close()
    return found


def engine_of(platform: GpuPlatform, folder: str, dtype: str, *, graphs: bool, overlap: str) -> Any:
    """An engine of random weights; without graphs every step runs at its own size."""
    kept = GpuPlatform.buckets, GpuPlatform.graph_runner
    if not graphs:
        GpuPlatform.buckets = lambda self, limits: BucketPlan()  # type: ignore[method-assign]
        GpuPlatform.graph_runner = lambda self: EagerRunner()  # type: ignore[method-assign]
    try:
        options = EngineOptions(
            model=folder, platform=platform.name, load_format="dummy", dtype=dtype, max_num_seqs=64,
            max_model_len=2048, overlap="on" if overlap == "on" else "off", target_step_seconds=0,
        )  # fmt: skip
        return build_engine(options, progress=False)
    finally:
        GpuPlatform.buckets, GpuPlatform.graph_runner = kept  # type: ignore[method-assign]


def decode(engine: Any, batch: int, tokens: int, vocab: int) -> tuple[list[float], list[float]]:
    """Wall seconds of steps in which all sequences decode; and those without waits for the device."""
    sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, seed=0)
    for place in range(batch):
        prompt = [(13 * place + 7 * i) % vocab for i in range(CONTEXT // 2)]
        engine.add(EngineRequest(f"{batch}-{place}", prompt, sampling))
    walls, hosts, waited = [], [], []
    wait = PendingStep.wait

    def timed(self: PendingStep) -> Any:
        start = perf_counter()
        try:
            return wait(self)
        finally:
            waited.append(perf_counter() - start)

    PendingStep.wait = timed  # type: ignore[method-assign]
    try:
        while engine.has_work:
            waited.clear()
            start = perf_counter()
            engine.step()
            walls.append(perf_counter() - start)
            hosts.append(walls[-1] - sum(waited))
    finally:
        PendingStep.wait = wait  # type: ignore[method-assign]
    steady = slice(len(walls) // 3, -4)
    return walls[steady], hosts[steady]


def weights_read(shape: dict[str, Any]) -> int:
    """Numbers of the weights that a decode step reads: all but an embedding of its own."""
    hidden, inner, dim = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    heads, kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
    layer = hidden * dim * (2 * heads + 2 * kv_heads) + 3 * hidden * inner
    return int(layer * shape["num_hidden_layers"] + hidden * shape["vocab_size"])


def mix(platform: GpuPlatform, speed: Speed, clock: Clock, sizes: Sizes) -> dict[str, Any]:
    """Output tokens a second of requests that are all there from the start."""
    if not clock.has(60, "the mix of lengths"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(sizes.shapes["0.6B"]))
        options = EngineOptions(
            model=folder, platform=platform.name, load_format="dummy", dtype=sizes.dtype, target_step_seconds=0,
            max_model_len=2048,
        )  # fmt: skip
        count, prompt, answer = sizes.mix
        done = offline.run(options, num_prompts=count, input_len=prompt, output_len=answer)
    print(f"mix of lengths, 0.6B: {done.output_tokens_per_second:.0f} output tokens/s in {done.num_steps} steps")
    return {"output_tokens_per_second": done.output_tokens_per_second, "steps": done.num_steps}
