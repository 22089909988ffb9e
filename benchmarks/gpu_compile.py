"""Compiles every Triton kernel with every tile for GPUs that are not here, and prints what each takes of one.

    python benchmarks/gpu_compile.py [--targets sm_80 sm_90 gfx90a gfx942] [--match NAME] [--json FILE]

Needs triton, and no GPU: its wheel brings the compilers. Registers are those of a thread, spills are bytes (NVIDIA) or
registers (AMD) that did not fit and went to memory, shared is bytes of shared memory (AMD: LDS) of a program.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from jackfield_attention.triton.signature import Signature
from jackfield_attention.triton.signatures import signatures

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx90a": GPUTarget("hip", "gfx90a", 64),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
FLOAT8 = {"sm_90": "fp8e4nv", "gfx942": "fp8e4b8"}  # of GPUs that multiply 8-bit floats, as Triton calls them
OF_PLUGINS = ("ops", "sampling")  # parts of jackfield_gpu that list kernels of their own
BY_VENDOR = ("linear", "experts")  # those whose tiles differ between vendors
VENDORS = {"cuda": "nvidia", "hip": "amd"}  # by Triton's backend
ALIGNED = [["tt.divisibility", 16]]
AMD_FACTS = {"registers": "vgpr_count", "spills": "vgpr_spill_count"}


def listed(arch: str) -> Iterator[Signature]:
    """Kernels of the shared attention, then those that the GPU plugins bring, where they are installed."""
    yield from signatures(arch)
    if importlib.util.find_spec("jackfield_gpu") is None:
        return
    for part in OF_PLUGINS:
        yield from importlib.import_module(f"jackfield_gpu.{part}.signatures").signatures()
    for part in BY_VENDOR:
        module = importlib.import_module(f"jackfield_gpu.{part}.signatures")
        yield from module.signatures(VENDORS[TARGETS[arch].backend])
    if arch in FLOAT8:
        yield from importlib.import_module("jackfield_gpu.linear.signatures").float8_signatures(FLOAT8[arch])


def compiled(one: Signature, target: GPUTarget) -> Any:
    """What the compiler makes of a kernel whose pointers, and the integers that say so, are multiples of 16."""
    names = one.kernel.arg_names
    types = {name: one.signature.get(name, "constexpr") for name in names}
    aligned = {name for name, kind in one.signature.items() if kind.startswith("*")} | set(one.aligned)
    attributes = {(place,): ALIGNED for place, name in enumerate(names) if name in aligned}
    source = ASTSource(one.kernel, types, dict(one.constexprs), attributes)
    return triton.compile(source, target, {"num_warps": one.num_warps, "num_stages": one.num_stages})


def facts(kernel: Any, target: GPUTarget) -> dict[str, int]:
    """Registers, spills and shared memory; -1: not told."""
    found = {"shared": int(kernel.metadata.shared)}
    if target.backend == "hip":
        text = kernel.asm["amdgcn"]
        return {**found, **{name: _number(rf"\.{key}:\s*(\d+)", text) for name, key in AMD_FACTS.items()}}
    told = _resources(kernel.asm["cubin"])
    return {**found, "registers": _number(r"REG:(\d+)", told), "spills": _number(r"(?:STACK|LOCAL):(\d+)", told)}


def _resources(cubin: bytes) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True).stdout


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return -1 if found is None else int(found[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--match", default="", help="only kernels whose names contain this")
    parser.add_argument("--json", metavar="FILE", help="write every line there")
    parser.add_argument("--quiet", action="store_true", help="print failures, spills and counts alone")
    given = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        parser.error("TRITON_INTERPRET=1 makes kernels that cannot be compiled; unset it")
    lines: list[dict[str, Any]] = []
    for arch in given.targets:
        start = perf_counter()
        for one in listed(arch):
            if given.match in one.name:
                lines.append(tried(arch, one))
                if not given.quiet or lines[-1].get("error") or lines[-1].get("spills", 0) > 0:
                    print(told(lines[-1]), flush=True)
        mine = [line for line in lines if line["target"] == arch]
        failed = sum("error" in line for line in mine)
        spilled = sum(line.get("spills", 0) > 0 for line in mine)
        seconds = perf_counter() - start
        print(f"{arch}: {len(mine)} compiled, {failed} failed, {spilled} spill, {seconds:.0f} s", flush=True)
    if given.json:
        Path(given.json).write_text(json.dumps(lines, indent=1))
    return int(any("error" in line for line in lines))


def tried(arch: str, one: Signature) -> dict[str, Any]:
    """One line of the table."""
    line: dict[str, Any] = {"target": arch, "kernel": one.name}
    try:
        return {**line, **facts(compiled(one, TARGETS[arch]), TARGETS[arch])}
    except Exception as error:  # of any kind: the compilers have many, and the next kernel is to be tried all the same
        return {**line, "error": f"{type(error).__name__}: {str(error)[:300]}"}


def told(line: dict[str, Any]) -> str:
    """A line for people."""
    if "error" in line:
        return f"{line['target']:<7} {line['kernel']:<88} FAILED {line['error']}"
    numbers = " ".join(f"{name} {line[name]:>6}" for name in ("registers", "spills", "shared"))
    return f"{line['target']:<7} {line['kernel']:<88} {numbers}"


if __name__ == "__main__":
    sys.exit(main())
