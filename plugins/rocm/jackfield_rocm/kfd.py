"""AMD's GPUs as the Linux driver lists them (amdkfd, in the amdgpu module). Imports no torch.

Each folder below /sys/class/kfd/kfd/topology/nodes is a processor; its file `properties` has a name and a number on
each line (the kernel's drivers/gpu/drm/amd/amdkfd/kfd_topology.c). A CPU's `gfx_target_version` is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jackfield_gpu.arch import gfx_name

DEVICE = Path("dev/kfd")
_NODES = Path("sys/class/kfd/kfd/topology/nodes")


def gpus(root: Path) -> tuple[str, ...]:
    """The `gfx` names of the machine's GPUs, in the driver's order; `root` is where /dev and /sys are."""
    folders = (root / _NODES).glob("*/properties")
    nodes = sorted(folders, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else -1)
    versions = (_properties(path).get("gfx_target_version", 0) for path in nodes)
    return tuple(gfx_name(version) for version in versions if version)


def _properties(path: Path) -> Mapping[str, int]:
    """Nothing where the file may not be read: a container that was given some of the GPUs sees the others so."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
