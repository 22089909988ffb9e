"""The kernels of every instruction set that runs here, each in a copy of the library with a pool of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from jackfield_cpu.kernels import LIBRARY, Kernels, load

SOURCE = Path(os.environ.get("JACKFIELD_TESTED_LIBRARY", LIBRARY))  # `ci/sanitize` names its own
LEVELS = ("avx512_amx", "avx512_bf16", "avx512_vnni", "avx512", "avx2", "generic")
_TRIAL = """
import sys, torch
from pathlib import Path
from jackfield_cpu.kernels import load
from jackfield_cpu.native_linear import NativeLinear
from jackfield_platforms.linear import Encoded, Encoding
op = NativeLinear(load(Path(sys.argv[1]), sys.argv[2], 1))
x = torch.ones(20, 64, dtype=torch.bfloat16)
assert op.apply(x, op.pack(Encoded(Encoding("float", 16), x))).eq(64).all()
"""


@cache
def levels() -> tuple[str, ...]:
    """Names of those that this processor executes, whether it announces them or not: tried in a child process."""
    return tuple(name for name in LEVELS if _runs(name))


def _runs(name: str) -> bool:
    command = (sys.executable, "-c", _TRIAL, str(SOURCE), name)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@cache
def kernels_of(name: str, threads: int) -> Kernels:
    """Kernels of one instruction set, on `threads` threads."""
    copy = Path(shutil.copy(SOURCE, Path(mkdtemp()) / f"{name}_{threads}.so"))
    loaded = load(copy, name, threads)
    assert isinstance(loaded, Kernels), loaded
    return loaded
