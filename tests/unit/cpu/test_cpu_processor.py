"""Counting cores and naming instruction sets, from /proc/cpuinfo of several machines; the probe on top of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jackfield_cpu import probe
from jackfield_cpu.processor import this_processor
from jackfield_platforms.probe import LaunchOptions


def machine(root: Path, cores: int, threads: int, flags: str) -> Path:
    """A root with the cpuinfo of one socket; hardware thread t of core c is CPU c + t * cores."""
    blocks = [
        f"processor\t: {core + thread * cores}\nmodel name\t: Test 9000\nphysical id\t: 0\n"
        f"core id\t: {core}\nflags\t: {flags}"
        for thread in range(threads)
        for core in range(cores)
    ]
    (root / "proc").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text("\n\n".join(blocks) + "\n")
    return root


def test_hardware_threads_of_a_core_count_once(tmp_path: Path) -> None:
    root = machine(tmp_path, cores=4, threads=2, flags="sse2 avx2 fma")
    assert this_processor(range(8), root).cores == 4
    assert this_processor((0, 4), root).cores == 1
    assert this_processor((0, 1), root).describe() == "Test 9000, 2 cores, AVX2"


@pytest.mark.parametrize(
    ("flags", "name", "bfloat16"),
    [
        ("avx2", "AVX2", False),
        ("avx2 avx512f", "AVX-512", False),
        ("avx2 avx512f avx512_bf16", "AVX-512 BF16", True),
        ("avx2 avx512f avx512_bf16 amx_bf16", "AMX BF16", True),
        ("sse2", "baseline instructions", False),
    ],
)
def test_the_widest_arithmetic_is_named(tmp_path: Path, flags: str, name: str, bfloat16: bool) -> None:
    processor = this_processor((0,), machine(tmp_path, 1, 1, flags))
    assert processor.instruction_set == name
    assert processor.multiplies_bfloat16 is bfloat16


def test_arm_names_its_flags_differently(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd bf16 sve\n\nprocessor\t: 1\n")
    processor = this_processor((0, 1), tmp_path)
    assert (processor.cores, processor.instruction_set, processor.multiplies_bfloat16) == (2, "SVE", True)


def test_a_quota_lowers_the_number_of_cores(tmp_path: Path) -> None:
    root = machine(tmp_path, cores=8, threads=1, flags="avx2")
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text("0::/\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu.max").write_text("250000 100000\n")
    assert this_processor(range(8), root).cores == 2


def test_the_probe_always_finds_the_cpu() -> None:
    found = probe.probe()
    assert (found.state, found.score, found.devices) == ("usable", 10, 1)
    assert "core" in found.why


def test_threads_are_what_the_user_asked_for_else_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert probe.environment(LaunchOptions()).env["OMP_NUM_THREADS"] == str(this_processor().cores)
    assert probe.environment(LaunchOptions(num_threads=3)).env["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in probe.environment(LaunchOptions()).env
    assert probe.environment(LaunchOptions(num_threads=3)).env["OMP_NUM_THREADS"] == "3"


def test_ranks_share_the_cpus() -> None:
    shares = [probe.environment(LaunchOptions(rank, 2, cpus=(4, 5, 6, 7))).cpus for rank in (0, 1)]
    assert shares == [(4, 5), (6, 7)]


def test_the_probe_imports_no_torch() -> None:
    code = "import sys, jackfield_cpu.probe as p; p.probe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
