"""The CPU plugin's attention: cache bytes read a second at decode, operations a second at a prompt, beside plain torch.

    python benchmarks/cpu_attention.py [--seconds 2.0] [--threads N] [--json]

One layer with the heads of Qwen3-0.6B (16 query and 8 kv heads of 128, bfloat16). The caches of a case are larger
together than the processor's, and runs go round them. Both backends and the machine's read bandwidth are measured in
turn, so that what else the machine does reaches all of them; the table holds medians, and ratios count more than
figures.
"plan" is the host's part of a step, in microseconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch
from attention_layout import layout_of

from jackfield_attention.paged import PagedTorchAttention
from jackfield_cpu.native_attention import NativeAttention
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout
from jackfield_platforms.bucket import Bucket, phase_of
from jackfield_platforms.kv import Paged
from jackfield_platforms.ops import OpSpec, OpTable, resolve

HEADS, KV_HEADS, DIM, DTYPE, BLOCK = 16, 8, 128, torch.bfloat16, 16
TOKEN_BYTES = 2 * KV_HEADS * DIM * 2
CASES = {  # (kv_len, new tokens) of each row
    "decode, 1 row of 8,192": [(8192, 1)],
    "decode, 1 row of 32,768": [(32768, 1)],
    "decode, 32 rows of 512": [(512, 1)] * 32,
    "prompt of 2,048": [(2048, 2048)],
    "512 tokens behind 7,680": [(8192, 512)],
}
BACKENDS: dict[str, type[AttentionBackend[Any]]] = {"native": NativeAttention, "torch": PagedTorchAttention}
APART = 1 << 29  # bytes of cache that runs go round, unless one cache is larger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case and backend")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [{"case": name, **measure(case, arguments.seconds)} for name, case in CASES.items()]
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'case':<26}{'ms':>9}{'torch ms':>10}{'GB/s':>8}{'of read':>9}{'GFLOP/s':>9}{'plan us':>9}{'torch us':>9}")
    for row in rows:
        print(
            "{case:<26}{native_ms:>9.3f}{torch_ms:>10.3f}{gb_s:>8.1f}{of_read:>9.2f}{gflop_s:>9.0f}"
            "{native_plan_us:>9.0f}{torch_plan_us:>9.0f}".format(**row)
        )


def measure(rows: list[tuple[int, int]], seconds: float) -> dict[str, float]:
    """Medians of one case, the backends and a plain read in turn."""
    layout = layout_of(rows, BLOCK)
    made = {name: Backend(backend, layout) for name, backend in BACKENDS.items()}
    spent: dict[str, list[float]] = {name: [] for name in (*made, *(f"{name}_plan" for name in made), "read")}
    memory = torch.ones(APART // 4, dtype=torch.float32)
    ends = perf_counter() + seconds * len(made)
    while perf_counter() < ends:
        spent["read"].append(timed(memory.sum))
        for name, one in made.items():
            spent[f"{name}_plan"].append(timed(one.replan))
            spent[name].append(timed(one.run))
    took = {name: median(each) for name, each in spent.items()}
    kv = sum(kv_len for kv_len, _ in rows)
    pairs = sum(new * (kv_len - new) + new * (new + 1) // 2 for kv_len, new in rows)
    gb_s = kv * TOKEN_BYTES / took["native"] / 1e9
    return {
        "native_ms": 1e3 * took["native"],
        "torch_ms": 1e3 * took["torch"],
        "gb_s": gb_s,
        "of_read": gb_s / (APART / took["read"] / 1e9),
        "gflop_s": 4 * pairs * HEADS * DIM / took["native"] / 1e9,
        "native_plan_us": 1e6 * took["native_plan"],
        "torch_plan_us": 1e6 * took["torch_plan"],
    }


class Backend:
    """A backend with a step's tensors, and as many caches as keep the processor's own cache cold."""

    def __init__(self, backend: type[AttentionBackend[Any]], layout: Layout) -> None:
        need = AttentionNeed(Paged(KV_HEADS, DIM, DIM, "bfloat16"), HEADS, DIM**-0.5, query_dtype="bfloat16")
        ops = resolve(OpTable(), OpSpec("bfloat16"))
        self.backend = backend(need, BLOCK, device=torch.device("cpu"), ops=ops)
        num_blocks = 1 + layout.block_table.size
        caches = max(1, APART // (num_blocks * BLOCK * TOKEN_BYTES))
        self.layers = [LayerKV(self.backend.allocate(num_blocks)) for _ in range(caches)]
        for layer in self.layers:
            for x in (layer.cache.k, layer.cache.v):
                x.normal_()
        shapes = ((HEADS, DIM), (KV_HEADS, DIM), (KV_HEADS, DIM))
        self.q, self.k, self.v = (torch.randn(layout.num_tokens, *shape).to(DTYPE) for shape in shapes)
        self.layout = layout
        self.bucket = Bucket(phase_of(layout.num_new), layout.num_rows, layout.num_tokens)
        self.plan = self.backend.blank(self.bucket)
        self.turn = 0
        self.replan(), self.run()

    def replan(self) -> None:
        self.backend.plan(self.layout, self.bucket, self.plan)

    @torch.inference_mode()
    def run(self) -> None:
        self.turn = (self.turn + 1) % len(self.layers)
        self.backend.run(self.q, self.k, self.v, self.layers[self.turn], self.plan)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = perf_counter()
    work()
    return perf_counter() - started


if __name__ == "__main__":
    main()
