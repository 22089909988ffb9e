"""Limits of control groups, against trees written for the purpose."""

from __future__ import annotations

from pathlib import Path

import psutil

from jackfield_cpu.cgroup import cpu_quota, memory_limits
from jackfield_cpu.memory import process_memory

MB = 2**20


def tree(root: Path, files: dict[str, object]) -> Path:
    """Files by their path below `root`."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


def test_without_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    memory = process_memory(tmp_path)
    assert memory.total == psutil.virtual_memory().total
    assert 0 < memory.free <= memory.total
    assert memory.limit == "physical memory"


def test_version_2_limits_free_memory_and_page_cache_counts_as_free(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/pods/one"
    files = {
        "proc/self/cgroup": "0::/pods/one",
        f"{group}/memory.max": 100 * MB,
        f"{group}/memory.current": 70 * MB,
        f"{group}/memory.stat": f"anon {20 * MB}\ninactive_file {30 * MB}\nactive_file {10 * MB}\nshmem {10 * MB}",
    }
    memory = process_memory(tree(tmp_path, files))
    assert (memory.total, memory.free) == (100 * MB, 70 * MB)
    assert memory.limit == f"cgroup {tmp_path / group}"


def test_the_tightest_ancestor_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pods/one",
        "sys/fs/cgroup/pods/one/memory.max": "max",
        "sys/fs/cgroup/pods/one/memory.current": 5 * MB,
        "sys/fs/cgroup/pods/memory.max": 64 * MB,
        "sys/fs/cgroup/pods/memory.current": 60 * MB,
    }
    memory = process_memory(tree(tmp_path, files))
    assert (memory.total, memory.free) == (64 * MB, 4 * MB)


def test_version_1_limits_too(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/docker/abc"
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n0::/",
        f"{group}/memory.limit_in_bytes": 80 * MB,
        f"{group}/memory.usage_in_bytes": 50 * MB,
        f"{group}/memory.stat": f"inactive_file 1\ntotal_inactive_file {15 * MB}\ntotal_active_file {5 * MB}",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
    }
    memory = process_memory(tree(tmp_path, files))
    assert (memory.total, memory.free) == (80 * MB, 50 * MB)


def test_a_path_that_is_not_mounted_falls_back_to_what_is(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/kubepods/outside",
        "sys/fs/cgroup/memory.max": 32 * MB,
        "sys/fs/cgroup/memory.current": 40 * MB,
    }
    (limit,) = memory_limits(tree(tmp_path, files))
    assert limit.limit == 32 * MB
    assert process_memory(tmp_path).free == 0


def test_cpu_time_is_limited_in_both_versions(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    two = tree(tmp_path / "2", {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"})
    assert cpu_quota(two) == 1.5
    free = tree(tmp_path / "free", {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"})
    assert cpu_quota(free) is None
    group = "sys/fs/cgroup/cpu/docker/abc"
    files = {"proc/self/cgroup": "3:cpu,cpuacct:/docker/abc", f"{group}/cpu.cfs_quota_us": 400000}
    assert cpu_quota(tree(tmp_path / "1", {**files, f"{group}/cpu.cfs_period_us": 100000})) == 4
