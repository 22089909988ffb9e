"""How fast all cores together read memory: the best of several kernels, sampled as often as a benchmark likes.

    with Bandwidth() as bandwidth:
        bandwidth.sample()   # bytes a second, now

The kernels are C (`bandwidth.c`), built with the system's compiler the first time and kept in the temporary folder.
They differ in how many streams a thread reads side by side, in prefetching, and in the size of the pages.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

SOURCE = Path(__file__).with_name("bandwidth.c")
GIB = 2**30
PASSES = 3  # of each kernel, in a sample
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Wno-psabi")


class Kernel(NamedTuple):
    """A way of reading. `ahead` is in bytes, 0: the hardware prefetches alone."""

    streams: int
    ahead: int
    huge: bool

    def describe(self) -> str:
        """For people: `4 streams, prefetch 1024, huge pages`."""
        streams = f"{self.streams} stream{'s' if self.streams > 1 else ''}"
        prefetch = f", prefetch {self.ahead}" if self.ahead else ""
        return f"{streams}{prefetch}, {'huge' if self.huge else 'plain'} pages"


_WAYS = ((1, 0), (1, 1024), (1, 4096), (2, 0), (2, 1024), (4, 0), (4, 1024), (8, 0), (8, 1024))  # as in bandwidth.c
KERNELS = tuple(Kernel(streams, ahead, huge) for huge in (True, False) for streams, ahead in _WAYS)


class Bandwidth:
    """Two buffers of `gib` GiB, of huge and of plain pages, and who reads them. A context: memory is given back after.

    RuntimeError when there is no C compiler.
    """

    def __init__(self, gib: float = 1.0, cpus: Iterable[int] = ()) -> None:
        self.bytes = int(gib * GIB)
        self.cpus = tuple(cpus) or tuple(sorted(os.sched_getaffinity(0)))
        self._cpus = (ctypes.c_int * len(self.cpus))(*self.cpus)
        self._library = _library()
        self._memory: dict[bool, int] = {}
        self._best: tuple[Kernel, ...] = ()

    def __enter__(self) -> Bandwidth:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for memory in self._memory.values():
            self._library.bandwidth_free(memory, self.bytes)
        self._memory.clear()

    def table(self, passes: int = 5) -> dict[Kernel, float]:
        """Bytes a second of every kernel, the best of its passes; the best kernels are those that `sample` asks."""
        rates = {kernel: self._rate(kernel, passes) for kernel in KERNELS}
        self._best = tuple(sorted(rates, key=lambda kernel: -rates[kernel])[:3])
        return rates

    def sample(self) -> float:
        """Bytes a second now: the best of three kernels, those that were the fastest in the first table."""
        if not self._best:
            self.table(PASSES)
        return max(self._rate(kernel, PASSES) for kernel in self._best)

    def _rate(self, kernel: Kernel, passes: int) -> float:
        if kernel.huge not in self._memory:
            memory = self._library.bandwidth_allocate(self.bytes, kernel.huge)
            if not memory:
                raise MemoryError(f"wanted {self.bytes / GIB:g} GiB to read")
            self._memory[kernel.huge] = memory
        memory = self._memory[kernel.huge]
        call = (memory, self.bytes, self._cpus, len(self.cpus), kernel.streams, kernel.ahead)
        seconds = min(self._library.bandwidth_read(*call) for _ in range(passes))
        if seconds <= 0:
            raise RuntimeError(f"bandwidth.c has no kernel of {kernel.describe()}, or its threads did not start")
        return self.bytes / seconds


def _library() -> ctypes.CDLL:
    built = _build()
    library = ctypes.CDLL(str(built))
    library.bandwidth_allocate.argtypes = (ctypes.c_size_t, ctypes.c_int)
    library.bandwidth_allocate.restype = ctypes.c_void_p
    library.bandwidth_free.argtypes, library.bandwidth_free.restype = (ctypes.c_void_p, ctypes.c_size_t), None
    library.bandwidth_read.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_int),
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
    )
    library.bandwidth_read.restype = ctypes.c_double
    return library


def _build() -> Path:
    """The library's file, built where this source was not built on this machine before."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *FLAGS]
    key = hashlib.sha256(SOURCE.read_bytes() + shlex.join(command).encode() + platform.node().encode()).hexdigest()
    built = Path(tempfile.gettempdir()) / f"jackfield-bandwidth-{os.getuid()}-{key[:16]}.so"
    if not built.exists():
        part = built.with_suffix(f".{os.getpid()}")
        try:
            done = subprocess.run([*command, "-o", str(part), str(SOURCE)], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise RuntimeError(
                f"wanted a C compiler to build {SOURCE.name}; {compiler[0]!r} is none (set CC)"
            ) from None
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)} failed on {SOURCE.name}:\n{done.stderr}")
        part.replace(built)
    return built
