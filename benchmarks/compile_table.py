"""A page of what `gpu_compile.py --json FILE` found, for one or several files: a line for each GPU and kind of kernel.

    python benchmarks/compile_table.py FILE... > docs/platforms/gpu_kernels.md

Lines come in the order of the files.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

KINDS = {  # by how a kernel's name begins
    "attention, over a cache of any dtype": ("attention", "write"),
    "latent attention": ("latent",),
    "weights of 8 and 4 bits": ("weight_only", "sum_parts"),
    "8-bit activations": ("scaled", "round_rows"),
    "experts": ("experts", "combine"),
    "norms, gates, rotary embedding, highest logit": ("rms", "add", "silu", "rotary", "argmax", "join"),
    "sampling": ("penalize", "sampling"),
}
HEAD = """# GPU kernels, compiled ahead of time

`benchmarks/gpu_compile.py` compiled every Triton kernel with every tile that serving may launch, without a GPU, and
`benchmarks/compile_table.py` wrote this from what it found. Registers are those of a thread (NVIDIA has 255 at most,
AMD 512); shared memory is that of a program. What did not fit into registers went to memory: bytes of a thread on
NVIDIA, registers on AMD.

| GPU | kernels | compiled | failed | registers, median / most | shared memory, most | spill | most that one spills |
|---|---|---|---|---|---|---|---|
"""


def kind_of(name: str) -> str:
    """The kind of a kernel; KeyError for a name that no kind has."""
    for kind, beginnings in KINDS.items():
        if name.startswith(beginnings):
            return kind
    raise KeyError(name)


def line(target: str, kind: str, found: list[dict[str, Any]]) -> str:
    """A line of the table for kernels of one kind."""
    good = [one for one in found if "error" not in one]
    cells = [target, kind, str(len(good)), str(len(found) - len(good))]
    if good:
        registers, spills = [one["registers"] for one in good], [max(one["spills"], 0) for one in good]
        shared = max(one["shared"] for one in good) / 1024
        cells += [f"{median(registers):.0f} / {max(registers)}", f"{shared:.1f} KiB"]
        cells += [str(sum(size > 0 for size in spills)), str(max(spills))]
    else:
        cells += ["", "", "", ""]
    return "| " + " | ".join(cells) + " |"


def table(found: list[dict[str, Any]]) -> str:
    """All lines, GPU after GPU in the order in which they come, each with its sum at the end."""
    lines = []
    for target in dict.fromkeys(one["target"] for one in found):
        of_target = [one for one in found if one["target"] == target]
        for kind in KINDS:
            if these := [one for one in of_target if kind_of(one["kernel"]) == kind]:
                lines.append(line(target, kind, these))
        lines.append(line(f"**{target}**", "**all**", of_target))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    given = parser.parse_args()
    print(HEAD + table([one for file in given.files for one in json.loads(file.read_text())]))


if __name__ == "__main__":
    main()
