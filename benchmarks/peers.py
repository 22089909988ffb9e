"""Jackfield beside llama.cpp, OpenVINO GenAI, vLLM and transformers: the same random weights, prompts and cores.

    python benchmarks/peers.py [--peers jackfield,openvino] [--measures decode,prefill] [--bits 16,8,4]
                               [--model qwen3-0.6b] [--repeats 5] [--root ~/.peers] [--out FOLDER]

Each peer gets an environment of its own under the root, installed the first time, and each engine a process of its own,
stopped while others have their turn. Engines whose weights have as many bits run interleaved; every figure is also told
as a fraction of the least time that the machine allows, with the bandwidth sampled beside each run. Everything is
greedy, ignores end tokens, and gets token ids that nobody has seen. The machine should do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bandwidth import Bandwidth
from peers.catalog import PEERS, chosen
from peers.compare import Comparison
from peers.installs import InstallFailed, Installs
from peers.models import Models
from peers.report import markdown, plot
from peers.workloads import MEASURES, START, USUAL

FLOOR = Path(__file__).with_name("floor.py")
SHAPES = ("qwen3-0.6b", "llama-1b", "qwen3-small")  # the last one only to try this program (not its prefill)


def listed(allowed: tuple[str, ...]) -> Any:
    """An argument of several words."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        unknown = [word for word in words if word not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"must be some of {', '.join(allowed)}; got {', '.join(unknown)}")
        return words

    return parse


def matrix_peaks(installs: Installs, given: Path | None) -> dict[str, Any]:
    """What `floor.py --json` says, now or in a file."""
    if given is not None:
        return dict(json.loads(given.read_text()))
    print("measuring the matrix peaks", flush=True)
    openvino = Path(installs.python("openvino"))
    command = [sys.executable, str(FLOOR), "--skip", "bandwidth", "--json"]
    command += ["--openvino", str(openvino)] if openvino.exists() else []
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def ceilings(floor: Mapping[str, Any]) -> dict[str, float]:
    """Operations a second by number format; a wider format serves a narrower one where it is faster."""
    best = {format: entry["rate"] for format, entry in floor["matrix"]["best"].items()}
    bfloat16 = max(best["float32"], best.get("bfloat16", 0))
    return {"bfloat16": bfloat16, "int8": max(bfloat16, best.get("int8", 0))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=listed(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument("--measures", type=listed((*MEASURES, START)), default=list(USUAL))
    parser.add_argument("--bits", type=listed(("16", "8", "4")), default=["16", "8", "4"], help="of a weight")
    parser.add_argument("--model", choices=SHAPES, default=SHAPES[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--root", type=Path, default=Path.home() / ".peers", help="environments, models, logs")
    parser.add_argument("--floor", type=Path, metavar="FILE", help="an earlier `floor.py --json` instead of a new one")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for a start or a run of an engine")
    parser.add_argument("--out", type=Path, default=Path("peers-results"))
    arguments = parser.parse_args()

    installs = Installs(arguments.root.expanduser().resolve())
    models = Models(installs, arguments.model)
    engines = chosen(arguments.peers, [int(bits) for bits in arguments.bits])
    failed: dict[str, str] = {}
    for engine in engines:
        try:
            installs.install(engine.peer)
            models.prepare(engine.files)
        except InstallFailed as error:
            failed[engine.name] = str(error)
    floor = matrix_peaks(installs, arguments.floor)
    comparison = Comparison(installs, models, ceilings(floor), timeout=arguments.timeout)
    for name, why in failed.items():
        comparison.fail("install", name, why)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stopped engines are ended then, too
    arguments.out.mkdir(parents=True, exist_ok=True)
    with Bandwidth() as bandwidth:
        for name in arguments.measures:
            started = time.monotonic()
            for bits in arguments.bits:
                side_by_side = [engine for engine in engines if engine.bits == int(bits)]
                comparison.run(MEASURES.get(name), side_by_side, arguments.repeats, bandwidth)
            print(f"{name}: {time.monotonic() - started:.0f} s in all", flush=True)
            write(arguments, comparison, floor)
    print(markdown(comparison.records, comparison.failures))


def write(arguments: argparse.Namespace, comparison: Comparison, floor: Mapping[str, Any]) -> None:
    """All that there is so far: results.json, results.md, and results.svg where matplotlib is installed."""
    result = {
        "model": arguments.model,
        "cpus": len(os.sched_getaffinity(0)),
        "floor": floor,
        "settings": comparison.settings,
        "failures": [failure._asdict() for failure in comparison.failures],
        "records": [record._asdict() for record in comparison.records],
    }
    (arguments.out / "results.json").write_text(json.dumps(result, indent=1))
    (arguments.out / "results.md").write_text(markdown(comparison.records, comparison.failures))
    try:
        plot(comparison.records, arguments.out / "results.svg")
    except ModuleNotFoundError:
        print("no plot: matplotlib is not installed", flush=True)


if __name__ == "__main__":
    main()
