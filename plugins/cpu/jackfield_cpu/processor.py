"""What processor this is, and how many of its cores this process may use. Imports no torch."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from jackfield_cpu.cgroup import cpu_quota

# What people know a processor's arithmetic by, the widest first; names as /proc/cpuinfo spells them
_FAMILIES = (
    ("amx_bf16", "AMX BF16"),
    ("avx512_bf16", "AVX-512 BF16"),
    ("avx512f", "AVX-512"),
    ("avx2", "AVX2"),
    ("sve", "SVE"),
    ("asimd", "NEON"),
)
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # "bf16" is ARM's


class Processor(msgspec.Struct, frozen=True):
    """`cores` counts physical cores that this process may run on, a control group's quota included."""

    model: str
    cores: int
    flags: frozenset[str]

    @property
    def instruction_set(self) -> str:
        """The widest arithmetic that it has."""
        return next((name for flag, name in _FAMILIES if flag in self.flags), "baseline instructions")

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether it has instructions that multiply bfloat16 numbers."""
        return bool(self.flags & _BFLOAT16_FLAGS)

    def describe(self) -> str:
        """One line for people."""
        return f"{self.model}, {self.cores} core{'s' if self.cores != 1 else ''}, {self.instruction_set}"


def this_processor(cpus: Iterable[int] = (), root: Path = Path("/")) -> Processor:
    """The processor of this machine; `cpus` are the logical CPUs that count (none given: those that we may run on)."""
    entries = _entries(root)
    allowed = frozenset(cpus) or _affinity()
    first: Mapping[str, str] = entries[0] if entries else {}
    flags = frozenset((first.get("flags") or first.get("Features") or "").split())
    cores = len({_core(entry, cpu) for cpu, entry in _by_number(entries).items() if cpu in allowed}) or len(allowed)
    quota = cpu_quota(root)
    if quota is not None:
        cores = min(cores, max(1, int(quota)))
    return Processor(first.get("model name") or platform.processor() or platform.machine(), cores, flags)


def _entries(root: Path) -> list[dict[str, str]]:
    """One dict a logical CPU; none where there is no /proc/cpuinfo."""
    file = root / "proc/cpuinfo"
    if not file.is_file():
        return []
    blocks = (block.splitlines() for block in file.read_text(errors="replace").strip().split("\n\n"))
    return [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block)} for block in blocks
    ]


def _by_number(entries: list[dict[str, str]]) -> dict[int, dict[str, str]]:
    return {int(entry["processor"]): entry for entry in entries if entry.get("processor", "").isdigit()}


def _core(entry: Mapping[str, str], cpu: int) -> tuple[str, str]:
    """What two hardware threads of one core have in common; without that information each CPU is a core."""
    return entry.get("physical id", ""), entry.get("core id", f"cpu {cpu}")


def _affinity() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))
