"""What this machine can do at most: bytes read a second, and operations of matrix products a second.

    python benchmarks/floor.py [--gib 2] [--openvino PYTHON] [--skip matrix] [--json]

Bandwidth is the best of several kernels that read memory with all cores (`bandwidth.py`); a matrix peak is the best of
torch, oneDNN, OpenVINO and our own kernels over the sizes of a 0.6B Qwen3 layer (`matrix_peak.py`);
JACKFIELD_CPU_KERNELS chooses ours. The machine should do nothing else; the figures drift between hours all the same, so
other benchmarks sample the bandwidth beside each of their runs: `Bandwidth().sample()`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from typing import Any

from bandwidth import GIB, Bandwidth, Kernel
from matrix_peak import FORMATS, PRODUCTS, Peaks, measure


def bandwidth_table(rates: Mapping[Kernel, float]) -> str:
    """A line for each kernel, the fastest first."""
    ordered = sorted(rates.items(), key=lambda item: -item[1])
    return "\n".join(f"{kernel.describe():45}{rate / 1e9:10.1f} GB/s" for kernel, rate in ordered)


def matrix_table(peaks: Peaks) -> str:
    """A line for each way: its best size, and what it reaches on a whole layer; the best of a format is marked."""
    lines = [f"{'':40}{'format':>10}{'best GOP/s':>12}{'at':>16}{'whole layer':>13}"]
    for by, format in dict.fromkeys((rate.by, rate.format) for rate in peaks.rates):
        mine = [rate for rate in peaks.rates if (rate.by, rate.format) == (by, format)]
        top = max(mine, key=lambda rate: rate.rate)
        mark = " *" if top == peaks.best(format) else ""
        at = f"{top.product} x {top.rows}"
        lines.append(
            f"{by:40}{format:>10}{top.rate / 1e9:12.1f}{at:>16}{layer_rate(peaks, by, format) / 1e9:13.1f}{mark}"
        )
    lines += [f"{refusal.by:40}{refusal.format:>10}  not here: {refusal.why}" for refusal in peaks.refusals]
    return "\n".join(lines)


def layer_rate(peaks: Peaks, by: str, format: str) -> float:
    """Operations a second over the products of a layer together, at the most rows."""
    mine = [rate for rate in peaks.rates if (rate.by, rate.format) == (by, format)]
    rows = max(rate.rows for rate in mine)
    work = {name: 2 * rows * out * size for name, (out, size) in PRODUCTS.items()}
    seconds = sum(work[rate.product] / rate.rate for rate in mine if rate.rows == rows)
    return sum(work.values()) / seconds


def as_json(rates: Mapping[Kernel, float], peaks: Peaks | None) -> dict[str, Any]:
    """Everything that was measured, rates a second."""
    result: dict[str, Any] = {"machine": platform.machine(), "cpus": len(os.sched_getaffinity(0))}
    if rates:
        best = max(rates, key=lambda kernel: rates[kernel])
        result["bandwidth"] = {"best": rates[best], "kernel": best.describe()}
        result["bandwidth"]["kernels"] = {kernel.describe(): rate for kernel, rate in rates.items()}
    if peaks is not None:
        tops = {format: peaks.best(format) for format in FORMATS}
        result["matrix"] = {
            "best": {format: top._asdict() for format, top in tops.items() if top is not None},
            "rates": [rate._asdict() for rate in peaks.rates],
            "refusals": [refusal._asdict() for refusal in peaks.refusals],
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--gib", type=float, default=2.0, help="of memory to read, once in huge and once in plain pages"
    )
    parser.add_argument("--passes", type=int, default=5, help="of each kernel; the best counts")
    parser.add_argument("--openvino", metavar="PYTHON", help="an interpreter that has OpenVINO (default: this one)")
    parser.add_argument("--skip", choices=("bandwidth", "matrix"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.gib < 1:
        parser.error("--gib must be at least 1: less may stay in the last cache")
    rates: Mapping[Kernel, float] = {}
    if arguments.skip != "bandwidth":
        with Bandwidth(arguments.gib) as bandwidth:
            rates = bandwidth.table(arguments.passes)
    peaks = None
    if arguments.skip != "matrix":
        peaks = measure(openvino=arguments.openvino, threads=len(os.sched_getaffinity(0)))
    if arguments.json:
        print(json.dumps(as_json(rates, peaks)))
        return
    print(f"{len(os.sched_getaffinity(0))} CPUs of {platform.machine()}, {arguments.gib * GIB / 1e9:.1f} GB read")
    if rates:
        print(bandwidth_table(rates))
    if peaks is not None:
        print(matrix_table(peaks))


if __name__ == "__main__":
    main()
