"""Seconds that finding a platform takes beside ten further plugins, one of which imports torch in its probe.

    python benchmarks/platforms_time.py [--platform cpu] [--runs 5] [--json]

The plugins are made in a temporary folder, with metadata as installed ones have it. Everything runs in fresh processes,
one case after the other within each run; the table holds the median and the fastest run. "select" is what a launch does
before it loads anything. Without a name every probe is run; with one, that one alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from jackfield_platforms import API_VERSION

NUM_PLUGINS = 10
PROBE = """{first}
from jackfield_platforms.probe import Launch, Probe
API_VERSION = {version}
def probe():
    return Probe("usable", "made for a measurement", devices=1, score={score})
def environment(options):
    return Launch()
"""
SELECT = "import sys; from jackfield_platforms.selection import find; find(*sys.argv[1:])"
JACKFIELD = ("-m", "jackfield")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", default="cpu", help="the installed plugin that is named in the named cases")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds = measure(cases(arguments.platform), arguments.runs)
    rows = [{"case": case, "median_s": median(each), "best_s": min(each)} for case, each in seconds.items()]
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'case':<38}{'median s':>10}{'best s':>10}")
    for row in rows:
        print("{case:<38}{median_s:>10.2f}{best_s:>10.2f}".format(**row))


def cases(platform: str) -> dict[str, tuple[str, ...]]:
    """Arguments of the interpreter, by the name of the case."""
    return {
        "an interpreter that does nothing": ("-c", "pass"),
        "jackfield --version": (*JACKFIELD, "--version"),
        "jackfield platforms": (*JACKFIELD, "platforms"),
        f"jackfield platforms --platform {platform}": (*JACKFIELD, "platforms", "--platform", platform),
        "select": ("-c", SELECT),
        f"select {platform}": ("-c", SELECT, platform),
    }


def measure(commands: dict[str, tuple[str, ...]], num_runs: int) -> dict[str, list[float]]:
    """Seconds of every run of every command, interleaved, after one run that is not counted."""
    seconds: dict[str, list[float]] = {case: [] for case in commands}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(NUM_PLUGINS):
            install(Path(folder), number)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
        environment.pop("JACKFIELD_PLATFORM", None)
        for run in range(num_runs + 1):
            for case, command in commands.items():
                start = perf_counter()
                subprocess.run([sys.executable, *command], env=environment, stdout=subprocess.DEVNULL, check=True)
                if run:
                    seconds[case].append(perf_counter() - start)
    return seconds


def install(site: Path, number: int) -> None:
    """A distribution with a probe; the last of them imports torch at its top."""
    name = f"gadget{number}"
    info = site / f"vendor_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vendor-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[jackfield.probes]\n{name} = vendor_{name}\n")
    first = "import torch" if number == NUM_PLUGINS - 1 else ""
    (site / f"vendor_{name}.py").write_text(PROBE.format(first=first, version=API_VERSION, score=200 + number))


if __name__ == "__main__":
    main()
