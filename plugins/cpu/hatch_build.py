"""Builds the kernels: by hatchling, into the wheel or beside the sources of an editable install; or run as a script.

    python hatch_build.py [FOLDER [COMPILER FLAG ...]]

Each instruction set gets its own object files, and `native/dispatch.cpp` chooses among them at run time, so that one
wheel serves every processor of an architecture. Without a C++ compiler nothing is built and the plugin serves on plain
torch: it says so at start-up. JACKFIELD_CPU_BUILD=require makes a missing compiler an error, =skip builds nothing.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run as a script
    BuildHookInterface = object

ROOT = Path(__file__).parent
SOURCES = ROOT / "native"
LIBRARY = Path("jackfield_cpu") / "libjackfield_cpu.so"
SWITCH = "JACKFIELD_CPU_BUILD"

PER_LEVEL = ("linear.cpp", "attention.cpp", "layer.cpp", "experts.cpp", "argmax.cpp")
ONCE = ("pool.cpp", "stream.cpp", "dispatch.cpp", "attention_plan.cpp", "recording.cpp")
_AVX512 = ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512")
LEVELS = {
    "x86_64": {
        "avx512_amx": (*_AVX512, "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
        "avx512_bf16": (*_AVX512, "-mavx512vnni", "-mavx512bf16"),
        "avx512_vnni": (*_AVX512, "-mavx512vnni"),
        "avx512": _AVX512,
        "avx2": ("-mavx2", "-mfma"),
    }
}
GENERIC: dict[str, tuple[str, ...]] = {"generic": ()}
FLAGS = (  # GCC 12 warns of uninitialized values in its own headers
    "-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-pthread",
    "-Wall", "-Wextra", "-Wno-psabi", "-Wno-uninitialized", "-Wno-maybe-uninitialized",
)  # fmt: skip


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc, valid-type]
    """hatchling's hook for wheels, editable ones included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library; with it the wheel is of one platform, and of every Python."""
        if self.target_name != "wheel" or not build(ROOT / LIBRARY):
            return
        build_data["artifacts"].append(f"/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def build(target: Path, extra: tuple[str, ...] = ()) -> bool:
    """Compile and link `target`, unless it is newer than every source; False where nothing can be built."""
    wanted = os.environ.get(SWITCH, "")
    if wanted not in ("", "skip", "require"):
        raise SystemExit(f"{SWITCH} must be 'skip', 'require' or unset; got {wanted!r}")
    sources = [*SOURCES.iterdir(), Path(__file__)]
    if wanted == "skip":
        return False
    if not extra and target.exists() and target.stat().st_mtime > max(one.stat().st_mtime for one in sources):
        return True
    compiler = _compiler()
    if compiler is None:
        if wanted == "require":
            raise SystemExit(f"{SWITCH}=require: wanted a C++ compiler; neither $CXX, c++, g++ nor clang++ was found")
        print("jackfield-cpu: no C++ compiler found; built without kernels, it serves on plain torch", file=sys.stderr)
        return False
    with TemporaryDirectory() as folder:
        jobs = _jobs(Path(folder))
        with ThreadPoolExecutor(os.cpu_count()) as several:
            list(several.map(lambda job: _run([*compiler, *FLAGS, *extra, *job]), jobs))
        objects = [job[-1] for job in jobs]
        # under another name first: a process that has the old library mapped keeps it
        fresh = target.with_suffix(f".{os.getpid()}")
        _run([*compiler, *extra, "-shared", "-pthread", "-o", str(fresh), *objects])
        fresh.replace(target)
    return True


def _jobs(folder: Path) -> list[list[str]]:
    """Arguments of each compilation, the longest first; the object file comes last."""
    levels = LEVELS.get(platform.machine(), GENERIC)
    jobs = [
        [f"-DLEVEL={level}", *flags, "-c", str(SOURCES / source), "-o", str(folder / f"{Path(source).stem}_{level}.o")]
        for source in PER_LEVEL
        for level, flags in levels.items()
    ]
    return jobs + [["-c", str(SOURCES / source), "-o", str(folder / f"{Path(source).stem}.o")] for source in ONCE]


def _compiler() -> list[str] | None:
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named
    return next(([path] for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr}")


if __name__ == "__main__":
    wanted = Path(sys.argv[1]) / LIBRARY.name if len(sys.argv) > 1 else ROOT / LIBRARY
    sys.exit(0 if build(wanted, tuple(sys.argv[2:])) else 1)
