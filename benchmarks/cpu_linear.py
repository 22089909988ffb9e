"""The CPU kernels' products in two builds of the library, call by call in turn: what a change to them is worth.

    python plugins/cpu/hatch_build.py before/          # and another folder after the change
    python benchmarks/cpu_linear.py before/libjackfield_cpu.so after/libjackfield_cpu.so [--model qwen3-0.6b]
        [--products qkv,down] [--rows 128,512,2048] [--bits 16] [--level LEVEL] [--seconds 4] [--threads N] [--json]

Weights are several of each size, so that none is in a cache when its turn comes. Calls take turns, so that a machine
whose speed changes from second to second changes both; a quantile of one library stands beside the other's. "bits" says
whether both gave the same answer. One library twice shows which differences mean nothing.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from matrix_peak import PRODUCTS

from jackfield_cpu.kernels import Kernels, Rows, load
from jackfield_cpu.native_linear import PLAIN, SILU_MUL, Panels, pack
from jackfield_platforms.linear import Encoded, Encoding

MODELS = {  # [out, in] of a layer's products
    "qwen3-0.6b": PRODUCTS,
    "llama-1b": {"qkv": (3072, 2048), "out": (2048, 2048), "gate_up": (16384, 2048), "down": (2048, 8192)},
}
COPIES, QUANTILES = 6, (0.1, 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--model", choices=MODELS, default="qwen3-0.6b")
    parser.add_argument("--products", help="of a layer, with commas; all of them unless given")
    parser.add_argument("--rows", type=row_counts, default="128,512,2048", help="with commas")
    parser.add_argument("--bits", type=int, choices=(16, 8), default=16)
    parser.add_argument("--level", default="", help="of instructions; the processor's best unless given")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each product and number of rows")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    products = MODELS[arguments.model]
    named = arguments.products.split(",") if arguments.products else list(products)
    if unknown := set(named) - set(products):
        parser.error(f"--products must be of {', '.join(products)}; got {', '.join(sorted(unknown))}")
    both = [load(path, arguments.level, arguments.threads) for path in (arguments.before, arguments.after)]
    results = []
    if not arguments.json:
        print(f"{'rows':>6} {'product':<8}{'ms before':>11}{'after':>9}   before ÷ after at 10, 25, 50 %   calls  bits")
    for name in named:
        weights = [pack(both[0], random_weight(*products[name], arguments.bits)) for _ in range(COPIES)]
        for rows in arguments.rows:
            results.append(one := compare(both, weights, name, rows, products[name], arguments.seconds))
            if not arguments.json:
                ratios = "  ".join(f"{ratio:.3f}" for ratio in one["ratios"])
                print(
                    f"{rows:>6} {name:<8}{one['before_ms']:>11.3f}{one['after_ms']:>9.3f}   {ratios:<31} "
                    f"{one['calls']:>5}  {'same' if one['same_bits'] else 'OTHER'}",
                    flush=True,
                )
    if arguments.json:
        print(json.dumps(results))


def row_counts(text: str) -> list[int]:
    try:
        counts = [int(one) for one in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"must be numbers from 1 with commas between them; got {text!r}")
    return counts


def random_weight(outputs: int, inputs: int, bits: int) -> Encoded:
    if bits == 16:
        return Encoded(Encoding("float", 16), (torch.randn(outputs, inputs) * 0.05).bfloat16())
    data = torch.randint(-128, 128, (outputs, inputs), dtype=torch.int8)
    return Encoded(Encoding("int", 8, scale="float32"), data, None, torch.rand(outputs, 1) / 64, dtype="bfloat16")


def compare(
    both: list[Kernels], weights: list[Panels], name: str, rows: int, size: tuple[int, int], seconds: float
) -> dict[str, Any]:
    """Times of both, in turn, for so many seconds; medians in milliseconds and ratios of `QUANTILES`."""
    gated = name == "gate_up"
    x = torch.randn(rows, size[1]).bfloat16()
    answers = [torch.full((rows, size[0] // (2 if gated else 1)), torch.nan, dtype=torch.bfloat16) for _ in both]
    calls: list[Callable[[Panels], None]] = [
        partial(multiply, kernels, x, answer, SILU_MUL if gated else PLAIN)
        for kernels, answer in zip(both, answers, strict=True)
    ]
    times: list[list[float]] = [[], []]
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[0]) < 10:
        for which in (0, 1) if len(times[0]) % 2 else (1, 0):
            weight = random.choice(weights)
            start = perf_counter()
            calls[which](weight)
            times[which].append(perf_counter() - start)
    for call in calls:
        call(weights[0])
    before, after = (sorted(some) for some in times)
    at = [int(share * len(before)) for share in QUANTILES]
    return {
        "product": name,
        "rows": rows,
        "before_ms": before[at[-1]] * 1e3,
        "after_ms": after[at[-1]] * 1e3,
        "ratios": [before[i] / after[i] for i in at],
        "calls": len(before),
        "same_bits": torch.equal(*answers),
    }


def multiply(kernels: Kernels, x: torch.Tensor, answer: torch.Tensor, finish: int, weight: Panels) -> None:
    kernels.library.jackfield_linear(weight.weight, Rows.of(x), len(x), Rows.of(answer), finish)


if __name__ == "__main__":
    main()
