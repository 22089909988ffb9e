"""Limits that a control group (a container, a systemd slice) puts on this process, versions 1 and 2. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

_UNLIMITED = 2**60  # version 1 writes a huge number where there is no limit


class MemoryLimit(msgspec.Struct, frozen=True):
    """One group's limit: bytes allowed, bytes in use that could not be given back, and the group's folder."""

    limit: int
    used: int
    group: str


def memory_limits(root: Path = Path("/")) -> list[MemoryLimit]:
    """Limits of this process's group and of all its ancestors, innermost first. `root` is where /proc and /sys are."""
    found = []
    for folder in _groups(root, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        if limit is not None and limit < _UNLIMITED:
            found.append(MemoryLimit(limit, max(0, used - _page_cache(folder)), str(folder)))
    return found


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that the groups allow, the least of them; None without a limit."""
    quotas = [quota for folder in _groups(root, "cpu") if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _quota(folder: Path) -> float | None:
    if (folder / "cpu.max").is_file():
        quota, _, period = (folder / "cpu.max").read_text().strip().partition(" ")
        return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None
    micros, period_micros = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return micros / period_micros if micros and period_micros else None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the process's group and its ancestors, in both versions' trees.

    Inside a container the path that /proc names may lie outside what is mounted; its ancestors that exist are taken.
    """
    file, mounts = root / "proc/self/cgroup", root / "sys/fs/cgroup"
    for line in file.read_text().splitlines() if file.is_file() else ():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            tops = [mounts / "unified", mounts] if (mounts / "unified").is_dir() else [mounts]
        elif controller in controllers.split(","):
            tops = [mounts / controllers, mounts / controller]
        else:
            continue
        top = next((top for top in tops if top.is_dir()), None)
        if top is not None:
            yield from _upwards(top, path.strip("/"))


def _upwards(top: Path, path: str) -> Iterator[Path]:
    folder = top / path
    while folder != top:
        if folder.is_dir():
            yield folder
        folder = folder.parent
    yield top


def _page_cache(folder: Path) -> int:
    """Bytes of file pages that the kernel gives back when memory is short; shared memory is not among them."""
    file = folder / "memory.stat"
    pairs = (line.partition(" ") for line in file.read_text().splitlines()) if file.is_file() else ()
    stat = {key: int(value) for key, _, value in pairs if value.isdigit()}
    names = ("total_inactive_file", "total_active_file")  # version 2 counts the groups below without saying "total_"
    return sum(stat.get(name, stat.get(name.removeprefix("total_"), 0)) for name in names)


def _number(file: Path) -> int | None:
    """The number in a file; None without the file, or where it says "max" or -1."""
    text = file.read_text().strip() if file.is_file() else ""
    return int(text) if text.isdigit() else None
