"""Gaudi accelerators as the Linux driver lists them (habanalabs, among the kernel's compute accelerators). Imports no
torch.

Below /sys/class/accel each device has a folder; other vendors' are there too. `device/vendor` is the PCI vendor's
number, `device/device_type` and `device/status` are habanalabs' own (kernel documentation,
ABI/testing/sysfs-driver-habanalabs). The device file is /dev/accel/<name>.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

FOLDER = Path("sys/class/accel")
FILES = Path("dev/accel")
HABANA = 0x1DA3  # PCI vendor
OPERATIONAL = "operational"


class Accelerator(msgspec.Struct, frozen=True):
    """One device: `accel0`, its type (`GAUDI3`), what the driver says of its state, and whether it may be opened."""

    name: str
    kind: str
    status: str
    is_open: bool


def accelerators(root: Path) -> tuple[Accelerator, ...]:
    """The machine's Gaudi devices, in the driver's order; `root` is where /dev and /sys are."""
    folders = (root / FOLDER).glob("accel[0-9]*")
    ordered = sorted(folders, key=lambda folder: int(folder.name.removeprefix("accel") or 0))
    return tuple(_accelerator(root, folder) for folder in ordered if _vendor(folder) == HABANA)


def _accelerator(root: Path, folder: Path) -> Accelerator:
    return Accelerator(
        name=folder.name,
        kind=_text(folder / "device/device_type") or "Gaudi",
        status=_text(folder / "device/status").lower() or OPERATIONAL,
        is_open=os.access(root / FILES / folder.name, os.R_OK | os.W_OK),
    )


def _vendor(folder: Path) -> int | None:
    text = _text(folder / "device/vendor")
    try:
        return int(text, 16)
    except ValueError:
        return None


def _text(path: Path) -> str:
    """Nothing where the file may not be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
