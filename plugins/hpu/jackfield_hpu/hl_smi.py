"""What the vendor's tool `hl-smi` says of the devices. Imports no torch.

`hl-smi -Q TYPES -f csv,noheader` (Intel Gaudi documentation, "System Management Interface Tool (hl-smi)") writes a line
a device, such as `0, 3, HL-325L, 1.22.1-6ecd6a8, 131072 MiB`.
"""

from __future__ import annotations

import shutil
import subprocess

import msgspec

TYPES = ("index", "module_id", "name", "driver_version", "memory.total")
_SECONDS = 8.0


class Listed(msgspec.Struct, frozen=True):
    """One device."""

    index: int
    module_id: int  # where it is on the board, which is how a process asks for it
    name: str
    driver: str
    mib: int


class ToolError(Exception):
    """The devices cannot be listed. The message is the tool's own, or says what was found."""


def listed(output: str) -> tuple[Listed, ...]:
    """What the tool wrote; ToolError when that is no list of devices."""
    return tuple(_listed(line) for line in output.splitlines() if line.strip())


def ask() -> tuple[Listed, ...] | None:
    """Run the tool; None where it is not installed."""
    tool = shutil.which("hl-smi")
    if tool is None:
        return None
    command = [tool, "-Q", ",".join(TYPES), "-f", "csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"hl-smi cannot be run: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(f"hl-smi ended with status {done.returncode}: {said[-1] if said else 'it said nothing'}")
    return listed(done.stdout)


def _listed(line: str) -> Listed:
    fields = [field.strip() for field in line.split(",")]
    try:
        index, module_id, name, driver, memory = fields
        return Listed(int(index), int(module_id), name, driver, int(memory.split()[0]))
    except (ValueError, IndexError):
        raise ToolError(f"hl-smi wrote {line.strip()!r}; wanted {', '.join(TYPES)}") from None
