"""The CPU plugin's attention: cache bytes read a second at decode, operations a second at a prompt, beside plain torch.

    python benchmarks/cpu_attention.py [--seconds 2.0] [--threads N] [--neighbours] [--before LIBRARY] [--json]

One layer with the heads of Qwen3-0.6B (16 query and 8 kv heads of 128, bfloat16). The caches of a case are larger
together than the processor's, and runs go round them. Both backends are measured in turn, so that what else the machine
does reaches both, and the read bandwidth before and after them; the table holds medians, and ratios count more than
figures. `--before` names another build of the plugin's library (`plugins/cpu/hatch_build.py FOLDER`), which is measured
instead of torch; the last column is its time over that of the installed one. JACKFIELD_CPU_KERNELS chooses the
instruction set of both.
"plan" is the host's part of a step, in microseconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import torch
from attention_layout import layout_of
from bandwidth import Bandwidth

from jackfield_attention.paged import PagedTorchAttention
from jackfield_cpu.kernels import Kernels, kernels, load
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
    "decode, 64 rows of 300": [(300, 1)] * 64,
    "prompt of 2,048": [(2048, 2048)],
    "512 tokens behind 7,680": [(8192, 512)],
}
TORCH_SPINS = 0.01  # seconds before each turn: torch's threads keep the cores for a while after an operation
APART = 1 << 29  # bytes of cache that runs go round, unless one cache is larger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case and backend")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--neighbours", action="store_true", help="a row's blocks one after the other, not shuffled")
    parser.add_argument("--before", type=Path, metavar="LIBRARY", help="another build of the kernels to compare with")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = kernels()
    if isinstance(found, str):
        parser.error(f"the plugin has no kernels here: {found}")
    before = load(arguments.before, found.name, arguments.threads) if arguments.before else None
    layouts = {name: layout_of(case, BLOCK, shuffled=not arguments.neighbours) for name, case in CASES.items()}
    with Bandwidth() as bandwidth:
        rows = [
            {"case": name, **measure(layout, arguments.seconds, before, bandwidth)} for name, layout in layouts.items()
        ]
    if arguments.json:
        asked = [{name: x for name, x in row.items() if x == x} for row in rows]  # JSON has no NaN
        print(json.dumps(asked))
        return
    head = ("case", "ms", "torch ms", "GB/s", "of read", "GFLOP/s", "plan us", "torch us", "before")
    print("{:<26}{:>9}{:>10}{:>8}{:>9}{:>9}{:>9}{:>9}{:>8}".format(*head))
    for row in rows:
        print(
            "{case:<26}{native_ms:>9.3f}{torch_ms:>10.3f}{gb_s:>8.1f}{of_read:>9.2f}{gflop_s:>9.0f}"
            "{native_plan_us:>9.0f}{torch_plan_us:>9.0f}{before_over_native:>8.2f}".format(**row)
        )


def measure(layout: Layout, seconds: float, before: Kernels | None, bandwidth: Bandwidth) -> dict[str, float]:
    """Medians of one case, the backends in turn; NaN is what was not asked for."""
    made = {"native": Backend(NativeAttention, layout)}
    if before is not None:
        made["before"] = Backend(NativeAttention, layout, like=made["native"], others=before)
    else:
        made["torch"] = Backend(PagedTorchAttention, layout)
    spent: dict[str, list[float]] = {name: [] for name in (*made, *(f"{name}_plan" for name in made))}
    read = bandwidth.sample()
    ends = perf_counter() + seconds * len(made)
    while perf_counter() < ends:
        for name, one in random.sample(list(made.items()), len(made)):
            sleep(TORCH_SPINS)
            one.run()  # not counted: it wakes the threads
            spent[f"{name}_plan"].append(timed(one.replan))
            spent[name].append(timed(one.run))
    took = {"torch": math.nan, "torch_plan": math.nan, "before": math.nan}
    took |= {name: median(each) for name, each in spent.items()}
    rows = [(int(kv_len), int(new)) for kv_len, new in zip(layout.kv_len, layout.num_new, strict=True)]
    kv = sum(kv_len for kv_len, _ in rows)
    pairs = sum(new * (kv_len - new) + new * (new + 1) // 2 for kv_len, new in rows)
    gb_s = kv * TOKEN_BYTES / took["native"] / 1e9
    return {
        "native_ms": 1e3 * took["native"],
        "torch_ms": 1e3 * took["torch"],
        "gb_s": gb_s,
        "of_read": 2e9 * gb_s / (read + bandwidth.sample()),
        "gflop_s": 4 * pairs * HEADS * DIM / took["native"] / 1e9,
        "native_plan_us": 1e6 * took["native_plan"],
        "torch_plan_us": 1e6 * took["torch_plan"],
        "before_over_native": took["before"] / took["native"],
    }


class Backend:
    """A backend with a step's tensors, and as many caches as keep the processor's own cache cold.

    `like` is another one whose caches it takes, each call the next of them. `others`: kernels instead of the plugin's.
    """

    def __init__(
        self,
        backend: type[AttentionBackend[Any]],
        layout: Layout,
        like: Backend | None = None,
        others: Kernels | None = None,
    ) -> None:
        need = AttentionNeed(Paged(KV_HEADS, DIM, DIM, "bfloat16"), HEADS, DIM**-0.5, query_dtype="bfloat16")
        ops = resolve(OpTable(), OpSpec("bfloat16"))
        self.backend: Any = backend(need, BLOCK, device=torch.device("cpu"), ops=ops)
        if others is not None:
            self.backend.library = others.library
        num_blocks = 1 + layout.block_table.size
        caches = max(1, APART // (num_blocks * BLOCK * TOKEN_BYTES))
        self.caches = like.caches if like else itertools.cycle([self._filled(num_blocks) for _ in range(caches)])
        shapes = ((HEADS, DIM), (KV_HEADS, DIM), (KV_HEADS, DIM))
        self.q, self.k, self.v = (torch.randn(layout.num_tokens, *shape).to(DTYPE) for shape in shapes)
        self.layout = layout
        self.bucket = Bucket(phase_of(layout.num_new), layout.num_rows, layout.num_tokens)
        self.plan = self.backend.blank(self.bucket)
        self.replan(), self.run()

    def _filled(self, num_blocks: int) -> LayerKV:
        layer = LayerKV(self.backend.allocate(num_blocks))
        for x in (layer.cache.k, layer.cache.v):
            x.normal_()
        return layer

    def replan(self) -> None:
        self.backend.plan(self.layout, self.bucket, self.plan)

    @torch.inference_mode()
    def run(self) -> None:
        self.backend.run(self.q, self.k, self.v, next(self.caches), self.plan)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = perf_counter()
    work()
    return perf_counter() - started


if __name__ == "__main__":
    main()
