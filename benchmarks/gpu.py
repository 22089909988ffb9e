"""What a GPU does with the CUDA or ROCm plugin: right or wrong, then figures as shares of what the device can do.

    python benchmarks/gpu.py [--platform cuda] [--minutes 8] [--parts check attention prefill model mix] [--json FILE]
    TRITON_INTERPRET=1 python benchmarks/gpu.py --platform cuda-interpreted --tiny

Never run on a GPU yet: none was at hand when it was written. The second line is what a test runs: it shows that the
script works, and its figures mean nothing. Each part prints its lines as soon as it has them, and what does
not fit into the minutes is left out by name. Times are medians of device time (events around a few runs), after runs
that are not counted; those of steps are wall time. Caches of one case are larger together than the device's own, and
runs go round them.

    check      the conformance kit, one seed
    attention  decode: bytes of keys and values a second, over what copying reaches (both ways counted)
    prefill    operations a second, over what a bfloat16 matrix product reaches
    model      a decode step of random weights in real shapes, over the bytes that it must read
    mix        tokens a second of a mix of lengths
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F

from jackfield.bench import offline
from jackfield.config.options import EngineOptions
from jackfield.engine.build import build_engine
from jackfield.engine.messages import EngineRequest
from jackfield.runner.pending_step import PendingStep
from jackfield.sampling_params import SamplingParams
from jackfield_attention.triton.backend import TritonAttention
from jackfield_gpu.platform import GpuPlatform
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout
from jackfield_platforms.bucket import Bucket, BucketPlan, phase_of
from jackfield_platforms.graph import EagerRunner
from jackfield_platforms.kv import Paged
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.loading import load
from jackfield_platforms.ops import OpSpec, resolve

Backend = type[AttentionBackend[Any]]
HEADS, KV_HEADS, DIM = 32, 8, 128  # of Llama 3 and Qwen3 8B
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151_936, "rms_norm_eps": 1e-6,
    "hidden_act": "silu", "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40_960,
    "rope_theta": 1_000_000.0,
}  # fmt: skip
SHAPES = {
    "0.6B": {**QWEN3, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
             "num_attention_heads": 16, "tie_word_embeddings": True},
    "8B": {**QWEN3, "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
           "num_attention_heads": 32, "tie_word_embeddings": False},
}  # fmt: skip
RUNS, WARM_UP = 20, 3
KIT_SECONDS = 150
CONTEXT = 128  # tokens of a sequence while it is timed, about


class Sizes(msgspec.Struct, frozen=True):
    """What is measured."""

    dtype: str
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    prompts: dict[str, list[tuple[int, int]]]  # (kv_len, new tokens) of each row
    shapes: dict[str, dict[str, Any]]
    model_batches: tuple[int, int]
    tokens: int  # that each sequence decodes
    mix: tuple[int, int, int]  # requests, tokens of a prompt and of an answer on average
    copied: int  # bytes
    matrix: int  # rows and columns
    apart: int  # bytes of cache that runs go round
    kit: tuple[str, ...]  # what the conformance kit is asked for beside its name
    runs: int = RUNS

    @property
    def number(self) -> int:
        """Bytes."""
        return torch_dtype(self.dtype).itemsize

    @property
    def token_bytes(self) -> int:
        """Keys and values of a layer."""
        return 2 * KV_HEADS * DIM * self.number


FULL = Sizes(
    dtype="bfloat16",
    batches=(1, 8, 64, 256),
    contexts=(512, 4096, 32_768),
    prompts={
        "1 prompt of 4,096": [(4096, 4096)],
        "16 prompts of 512": [(512, 512)] * 16,
        "2,048 behind 30,720": [(32_768, 2048)],
    },
    shapes=SHAPES,
    model_batches=(1, 64),
    tokens=64,
    mix=(256, 220, 190),
    copied=1 << 30,
    matrix=8192,
    apart=1 << 28,
    kit=("--seeds", "1"),
)
_TINY_SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 8,
               "tie_word_embeddings": True, "vocab_size": 500, "head_dim": 16, "num_key_value_heads": 8}  # fmt: skip
TINY = Sizes(
    dtype="float32",
    batches=(1, 2),
    contexts=(70,),
    prompts={"2 prompts of 20": [(20, 20)] * 2, "8 behind 40": [(48, 8)]},
    shapes={"0.6B": {**QWEN3, **_TINY_SHAPE}},
    model_batches=(1, 2),
    tokens=9,
    mix=(2, 6, 4),
    copied=1 << 20,
    matrix=256,
    apart=1 << 10,
    kit=("--seeds", "1", "-k", "check_silu_mul"),
    runs=2,
)


class Clock:
    """What is left of the minutes."""

    def __init__(self, minutes: float) -> None:
        self.ends = perf_counter() + 60 * minutes

    def left(self) -> float:
        return self.ends - perf_counter()

    def has(self, seconds: float, what: str) -> bool:
        """Whether so many seconds are left; otherwise says what is left out."""
        if self.left() >= seconds:
            return True
        print(f"left out: {what}")
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", default="cuda")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--parts", nargs="+", default=["check", "attention", "prefill", "model", "mix"])
    parser.add_argument("--json", help="a file for all figures")
    parser.add_argument("--tiny", action="store_true", help="sizes that Triton's interpreter is done with in a minute")
    arguments = parser.parse_args()
    clock, found, sizes = Clock(arguments.minutes), {}, TINY if arguments.tiny else FULL
    parts = {"check": check, "attention": decode_attention, "prefill": prefill_attention, "model": model, "mix": mix}
    plugins = load(arguments.platform)
    platform = plugins.platform(arguments.platform)
    assert isinstance(platform, GpuPlatform)
    print(f"{platform.describe()}, torch {torch.__version__}")
    speed = Speed.measured(platform, sizes)
    print(f"copy {speed.bytes_s / 1e12:.2f} TB/s, bfloat16 product {speed.flop_s / 1e12:.0f} TFLOP/s")
    for name in arguments.parts:
        try:
            found[name] = parts[name](platform, speed, clock, sizes)
        except (RuntimeError, ValueError, AssertionError) as error:  # the other parts may still tell something
            print(f"{name} FAILED: {type(error).__name__}: {error}")
            found[name] = f"{type(error).__name__}: {error}"
        torch.cuda.empty_cache()
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"copy": speed.bytes_s, "product": speed.flop_s, **found}))


class Speed:
    """What the device reaches in plain torch."""

    def __init__(self, bytes_s: float, flop_s: float) -> None:
        self.bytes_s, self.flop_s = bytes_s, flop_s

    @classmethod
    def measured(cls, platform: GpuPlatform, sizes: Sizes) -> Speed:
        device = platform.device()
        source = torch.ones(sizes.copied, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        a = torch.randn(sizes.matrix, sizes.matrix, dtype=torch_dtype(sizes.dtype), device=device)
        copy, product = (seconds(work, device, sizes.runs) for work in (lambda: target.copy_(source), lambda: a @ a))
        return cls(2 * source.nbytes / copy, 2 * sizes.matrix**3 / product)


def seconds(work: Callable[[], Any], device: torch.device, runs: int) -> float:
    """The median of device time; of wall time on the host."""
    for _ in range(WARM_UP):
        work()
    if device.type == "cpu":
        return median(host_seconds(work) for _ in range(runs))
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    for first, last in events:
        first.record()
        work()
        last.record()
    torch.cuda.synchronize()
    return median(first.elapsed_time(last) for first, last in events) / 1e3


def host_seconds(work: Callable[[], Any]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def check(platform: GpuPlatform, speed: Speed, clock: Clock, sizes: Sizes) -> str:
    """The kit in a process of its own, so that a fault of the device ends with it."""
    command = [sys.executable, "-m", "jackfield_platforms.testing.conformance", platform.name, *sizes.kit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=KIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"check: not done within {KIT_SECONDS} s")
        return "not done"
    lines = done.stdout.strip().splitlines()
    print("\n".join(["check:", *lines[-25:]]))
    return lines[-1] if lines else done.stderr[-500:]


class Attending:
    """A backend with a step's tensors, and as many caches as keep the device's own cold."""

    def __init__(self, backend: Backend, platform: GpuPlatform, rows: list[tuple[int, int]], sizes: Sizes) -> None:
        need, dtype = need_of(sizes), torch_dtype(sizes.dtype)
        ops, device = resolve(platform.ops(), OpSpec(sizes.dtype)), platform.device()
        block = backend.block_sizes[0]
        self.backend = backend(need, block, device=device, ops=ops)
        self.layout = layout_of(rows, block)
        num_blocks = 1 + self.layout.block_table.size
        caches = max(1, sizes.apart // (num_blocks * block * sizes.token_bytes))
        self.layers = [LayerKV(self.backend.allocate(num_blocks)) for _ in range(caches)]
        for layer in self.layers:
            for view in self.backend.token_views(layer.cache).values():
                view.normal_()
        shapes = ((HEADS, DIM), (KV_HEADS, DIM), (KV_HEADS, DIM))
        tokens = self.layout.num_tokens
        self.q, self.k, self.v = (torch.randn(tokens, *s, dtype=dtype, device=device) for s in shapes)
        self.bucket = Bucket(
            phase_of(self.layout.num_new), len(rows), tokens, max_blocks=self.layout.block_table.shape[1]
        )
        self.plan, self.turn = self.backend.blank(self.bucket), 0
        self.replan()

    def replan(self) -> None:
        self.backend.plan(self.layout, self.bucket, self.plan)

    @torch.inference_mode()
    def run(self) -> None:
        self.turn = (self.turn + 1) % len(self.layers)
        self.backend.run(self.q, self.k, self.v, self.layers[self.turn], self.plan)


def layout_of(rows: list[tuple[int, int]], block: int) -> Layout:
    """Rows in shuffled blocks."""
    lengths = np.array(rows, np.int32)
    width = -(-int(lengths[:, 0].max()) // block)
    table = np.random.default_rng(0).permutation(np.arange(1, 1 + len(rows) * width, dtype=np.int32))
    return Layout(
        num_rows=len(rows),
        num_tokens=int(lengths[:, 1].sum()),
        query_start=np.concatenate(([0], np.cumsum(lengths[:, 1]))).astype(np.int32),
        num_new=lengths[:, 1].copy(),
        kv_len=lengths[:, 0].copy(),
        block_table=table.reshape(len(rows), width),
    )


def need_of(sizes: Sizes) -> AttentionNeed:
    return AttentionNeed(Paged(KV_HEADS, DIM, DIM, sizes.dtype), HEADS, DIM**-0.5, query_dtype=sizes.dtype)


def backends(platform: GpuPlatform, sizes: Sizes) -> Iterator[Backend]:
    """Ours, and those of libraries that are installed."""
    yield TritonAttention
    yield from (one for one in platform.vendor_attention if one.objection(need_of(sizes)) is None)


def of_torch(rows: list[tuple[int, int]], device: torch.device, sizes: Sizes) -> float:
    """SDPA over dense keys and values of rows of one length: no pages, and nothing is written."""
    (kv_len, new), count, dtype = rows[0], len(rows), torch_dtype(sizes.dtype)
    q = torch.randn(count, HEADS, new, DIM, dtype=dtype, device=device)
    k, v = (torch.randn(count, KV_HEADS, kv_len, DIM, dtype=dtype, device=device) for _ in range(2))
    causal = new == kv_len and new > 1

    def attend() -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

    return seconds(attend, device, sizes.runs)


def decode_attention(platform: GpuPlatform, speed: Speed, clock: Clock, sizes: Sizes) -> list[dict[str, Any]]:
    """Bytes a second over the copy's, by batch and context."""
    print("decode attention, of copy bandwidth (microseconds):")
    found = []
    for batch in sizes.batches:
        for context in sizes.contexts:
            size = batch * context * sizes.token_bytes
            if 3 * size > platform.memory(platform.device()).free or not clock.has(8, f"decode {batch} x {context}"):
                continue
            rows = [(context, 1)] * batch
            took = {one.name: measured(one, platform, rows, sizes) for one in backends(platform, sizes)}
            took["sdpa"] = of_torch(rows, platform.device(), sizes)
            found.append({"batch": batch, "context": context, **took})
            told = "  ".join(f"{name} {size / t / speed.bytes_s:5.2f} ({1e6 * t:.0f})" for name, t in took.items())
            print(f"  {batch:>3} x {context:>6}  {told}")
    return found


def prefill_attention(platform: GpuPlatform, speed: Speed, clock: Clock, sizes: Sizes) -> list[dict[str, Any]]:
    """Operations a second over the matrix product's."""
    print("prefill attention, of the matrix product (TFLOP/s):")
    found = []
    for name, rows in sizes.prompts.items():
        if not clock.has(8, f"prefill of {name}"):
            continue
        pairs = sum(new * (kv_len - new) + new * (new + 1) // 2 for kv_len, new in rows)
        took = {one.name: measured(one, platform, rows, sizes) for one in backends(platform, sizes)}
        if rows[0][0] == rows[0][1]:
            took["sdpa"] = of_torch(rows, platform.device(), sizes)
        flop = 4 * pairs * HEADS * DIM
        found.append({"case": name, **took})
        told = "  ".join(f"{who} {flop / t / speed.flop_s:5.2f} ({flop / t / 1e12:.0f})" for who, t in took.items())
        print(f"  {name:<20}  {told}")
    return found


def measured(backend: Backend, platform: GpuPlatform, rows: list[tuple[int, int]], sizes: Sizes) -> float:
    return seconds(Attending(backend, platform, rows, sizes).run, platform.device(), sizes.runs)


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


if __name__ == "__main__":
    main()
