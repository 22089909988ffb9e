"""Jackfield beside llama.cpp, OpenVINO GenAI, vLLM and transformers: the same random weights, prompts and cores.

    python benchmarks/peers.py [--peers jackfield,openvino] [--measures decode,online,long] [--bits 16,8,4]
                               [--contexts 8192,32768] [--model qwen3-0.6b] [--repeats 5] [--root ~/.peers]
                               [--out FOLDER]

Each peer gets an environment of its own under the root, installed the first time, and each engine a process of its own,
stopped while others have their turn. Engines whose weights have as many bits run interleaved; every figure is also told
as a fraction of the least time that the machine allows, with the bandwidth sampled beside each run. Everything is
greedy, ignores end tokens, and gets token ids that nobody has seen. The machine should do nothing else. What the folder
holds already is not measured again, so that a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bandwidth import Bandwidth
from peers.bench import Bench
from peers.catalog import PEERS, Engine, chosen
from peers.compare import Comparison
from peers.contexts import OUTPUT_LEN, long
from peers.installs import InstallFailed, Installs
from peers.launch import Launcher
from peers.models import Models
from peers.online import ONLINE, online
from peers.plot import plot
from peers.records import Results
from peers.report import markdown
from peers.workloads import MEASURES, START, USUAL

FLOOR = Path(__file__).with_name("floor.py")
ALL_MEASURES = (*MEASURES, ONLINE, "long", "imported", START)
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


def sizes(text: str) -> tuple[int, ...]:
    """An argument of several numbers of tokens."""
    return tuple(int(word) for word in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=listed(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}")
    parser.add_argument(
        "--measures", type=listed(ALL_MEASURES), default=list(USUAL), help=f"of {','.join(ALL_MEASURES)}"
    )
    parser.add_argument("--bits", type=listed(("16", "8", "4")), default=["16", "8", "4"], help="of a weight")
    parser.add_argument("--contexts", type=sizes, default=(8192, 32_768), help="of `long` and `imported`, in tokens")
    parser.add_argument("--model", choices=SHAPES, default=SHAPES[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--root", type=Path, default=Path.home() / ".peers", help="environments, models, logs")
    parser.add_argument("--floor", type=Path, metavar="FILE", help="an earlier `floor.py --json` instead of a new one")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for a start or a run of an engine")
    parser.add_argument("--out", type=Path, default=Path("peers-results"), help="a folder; what it holds is kept")
    arguments = parser.parse_args()

    installs = Installs(arguments.root.expanduser().resolve())
    models = Models(installs, arguments.model)
    reaches = max(arguments.contexts) + OUTPUT_LEN if {"long", "imported"} & set(arguments.measures) else 0
    if reaches > models.context():
        parser.error(f"--contexts: {arguments.model} holds {models.context()} tokens, {OUTPUT_LEN} of them the answer")
    try:
        results = Results(arguments.out, arguments.model)
    except ValueError as error:
        parser.error(f"--out: {error}")
    results.retry(arguments.measures)
    engines = prepared(arguments, installs, models, results)
    if arguments.floor is not None or not results.machine:
        results.machine = matrix_peaks(installs, arguments.floor)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stopped engines are ended then, too
    launcher = Launcher(installs, models, arguments.contexts, arguments.timeout)
    with Bandwidth() as bandwidth:
        bench = Bench(launcher, results, bandwidth)
        comparison = Comparison(bench, models, ceilings(results.machine))
        for name in arguments.measures:
            started = time.monotonic()
            for bits in arguments.bits:
                side_by_side = [engine for engine in engines if engine.bits == int(bits)]
                if name == START:
                    comparison.starts(side_by_side, arguments.repeats)
                elif name == ONLINE:
                    online(bench, side_by_side, arguments.repeats)
                elif name in MEASURES:
                    comparison.turns(MEASURES[name], side_by_side, arguments.repeats)
                else:
                    long(bench, models, side_by_side, (name, arguments.contexts, arguments.repeats))
            print(f"{name}: {time.monotonic() - started:.0f} s in all", flush=True)
            write(arguments.out, results)
    print((arguments.out / "results.md").read_text())


def prepared(arguments: argparse.Namespace, installs: Installs, models: Models, results: Results) -> Sequence[Engine]:
    """The engines that were asked for, installed and with their files; why one is not is noted."""
    engines = chosen(arguments.peers, [int(bits) for bits in arguments.bits])
    for engine in engines:
        try:
            installs.install(engine.peer)
            models.prepare(engine.files)
        except InstallFailed as error:
            results.fail("install", engine.name, str(error))
    return engines


def write(folder: Path, results: Results) -> None:
    """All that there is so far: results.json, results.md, and results.svg where matplotlib is installed."""
    results.write()
    (folder / "results.md").write_text(markdown(results.records, results.failures, results.settings))
    try:
        plot(results.records, folder / "results.svg")
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        print("no plot: wanted matplotlib (pip install matplotlib); the same command then draws", flush=True)


if __name__ == "__main__":
    main()
