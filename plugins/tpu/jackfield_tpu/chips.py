"""TPU chips of this machine, found without the framework: on the PCI bus, and as the files that a process opens.

Chips have Google's PCI vendor number; device numbers are those that torch-xla (`torch_xla._internal.tpu`) and JAX
(`jax._src.hardware_utils`) list. Up to v4 a chip is /dev/accelN, from v5 on a VFIO group, /dev/vfio/N (gVisor's
`tpuproxy` documentation, which passes both into sandboxes).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import msgspec

VENDOR = "0x1ae0"
KINDS = {
    "0x0027": "TPU v2 or v3",
    "0x005e": "TPU v4",
    "0x0062": "TPU v5p",
    "0x0063": "TPU v5e",
    "0x006f": "TPU v6e",
    "0x0076": "TPU 7x",
}
_ACCEL, _GROUP = re.compile(r"accel\d+"), re.compile(r"\d+")


class Chips(msgspec.Struct, frozen=True):
    """What was found: kinds of chips on the bus, one entry each, and the files that are there for them."""

    on_bus: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Chips that this process could open."""
        return min(len(self.on_bus), len(self.files)) if self.on_bus else len(self.files)

    def describe(self) -> str:
        """For people: `4 x TPU v5e`."""
        if not self.on_bus:
            return f"{len(self.files)} x TPU"
        return ", ".join(f"{count} x {kind}" for kind, count in Counter(self.on_bus).items())

    def closed(self) -> list[str]:
        """Files that this process may not read and write."""
        return [file for file in self.files if not os.access(file, os.R_OK | os.W_OK)]


def find_chips(root: Path = Path("/")) -> Chips:
    """The chips under `root`. VFIO groups count only where there are chips on the bus: other devices have them too."""
    on_bus = tuple(sorted(_on_bus(root / "sys/bus/pci/devices")))
    files = _named(root / "dev", _ACCEL)
    if not files and on_bus:
        files = _named(root / "dev/vfio", _GROUP)
    return Chips(on_bus, tuple(map(str, files)))


def _on_bus(devices: Path) -> list[str]:
    found = []
    for device in devices.iterdir() if devices.is_dir() else ():
        if _number(device / "vendor") == VENDOR and (kind := KINDS.get(_number(device / "device"))):
            found.append(kind)
    return found


def _number(file: Path) -> str:
    return file.read_text(encoding="ascii").strip() if file.is_file() else ""


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return sorted(file for file in folder.iterdir() if pattern.fullmatch(file.name)) if folder.is_dir() else []
