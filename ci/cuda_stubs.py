"""Makes a torch that is built for CUDA importable without NVIDIA's libraries, which are three times its size.

    python ci/cuda_stubs.py SITE_PACKAGES/torch/lib

For each shared library of NVIDIA's that those in the folder want, one of the same name is made in which every wanted
function returns an error of CUDA's: torch then finds no GPU. Needs readelf, nm and a C compiler.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

LIBRARY = re.compile(r"lib(cu|nccl|nvsh|nvJit|nvToolsExt|nvrtc|nvperf)")
FUNCTION = re.compile(r"_{0,2}(cuda|cublas|cudnn|cusparse|cufft|cuFile|curand|cupti|nccl|nvshmem|cusolver|nvtx)")
NO_DEVICE = 100  # cudaErrorNoDevice
TEXTS = {"cudaGetErrorString", "cudaGetErrorName"}  # return text
Wanted = dict[str, dict[str, set[str]]]  # of a library, by version ("": none), the functions


def output(*command: str) -> str:
    """What a command printed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def library_of_version(file: Path) -> dict[str, str]:
    """Which library each symbol version belongs to that `file` wants."""
    found, library = {}, ""
    for line in output("readelf", "-VW", str(file)).splitlines():
        if named := re.search(r"File: (\S+)", line):
            library = named[1]
        elif library and (version := re.search(r"Name: (\S+)\s+Flags", line)):
            found[version[1]] = library
    return found


def wanted(folder: Path) -> Wanted:
    """Every library of NVIDIA's that is wanted and not in the folder. What has no version is the runtime's."""
    there = {file.name for file in folder.iterdir()}
    found: Wanted = {}
    plain: set[str] = set()
    for file in folder.glob("*.so*"):
        if file.is_symlink():
            continue
        for name in re.findall(r"NEEDED.*\[(.+?)\]", output("readelf", "-d", str(file))):
            if LIBRARY.match(name) and name not in there:
                found.setdefault(name, defaultdict(set))
        owners = library_of_version(file)
        for line in output("nm", "-D", "--undefined-only", "--with-symbol-versions", str(file)).splitlines():
            symbol, _, version = line.split()[-1].partition("@")
            owner = owners.get(version.lstrip("@"), "")
            if LIBRARY.match(owner) and owner not in there:
                found.setdefault(owner, defaultdict(set))[version.lstrip("@")].add(symbol)
            elif not version and FUNCTION.match(symbol):
                plain.add(symbol)
    for name, versions in found.items():
        if name.startswith("libcudart"):
            versions[""] |= plain - set().union(*versions.values())
    return found


def make(folder: Path, name: str, versions: dict[str, set[str]]) -> None:
    """Compile the stand-in for one library."""
    symbols = sorted(set().union(*versions.values()))
    bodies = [
        f'const char *{symbol}(void) {{ return "no CUDA"; }}'
        if symbol in TEXTS
        else f"long {symbol}(void) {{ return {NO_DEVICE}; }}"
        for symbol in symbols
    ]
    script = [
        f"{version} {{ global: {' '.join(f'{symbol};' for symbol in sorted(held))} }};"
        for version, held in versions.items()
        if version and held
    ]
    with tempfile.TemporaryDirectory() as work:
        source, versions_file = Path(work, "stubs.c"), Path(work, "versions")
        source.write_text("\n".join(bodies))
        versions_file.write_text("\n".join(script))
        flags = ["-w", "-O0", "-fno-builtin", "-shared", "-fPIC", f"-Wl,-soname,{name}"]
        if script:
            flags.append(f"-Wl,--version-script={versions_file}")
        subprocess.run(["cc", *flags, "-o", str(folder / name), str(source)], check=True)


def main() -> None:
    """Make what the folder wants."""
    folder = Path(sys.argv[1])
    found = wanted(folder)
    for name, versions in sorted(found.items()):
        make(folder, name, versions)
    print(f"{len(found)} libraries of NVIDIA's stand in for themselves in {folder}")


if __name__ == "__main__":
    main()
