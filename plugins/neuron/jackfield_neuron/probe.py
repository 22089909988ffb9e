"""What the machine says of Neuron devices before torch is imported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jackfield_neuron import devices
from jackfield_neuron.cores import CoresError, visible_cores
from jackfield_neuron.devices import DriverError, NeuronDevice
from jackfield_neuron.launch import variables
from jackfield_neuron.software import Software, installed
from jackfield_platforms.probe import Launch, LaunchOptions, Probe

API_VERSION = (0, 1)
SCORE = 100
_INFERENTIA_1 = "inf1."


def probe() -> Probe:
    """The NeuronCores that this process may use."""
    return judge(sorted(Path("/dev").glob("neuron*")), devices.ask, installed(), os.environ)


def judge(
    files: Sequence[Path],
    ask: Callable[[], tuple[NeuronDevice, ...]],
    software: Software,
    environ: Mapping[str, str],
) -> Probe:
    """The answer, from the driver's device files, what `neuron-ls` says, what is installed and what the user set."""
    if not files:
        return Probe("absent", "no /dev/neuron*")
    closed = next((file for file in files if not os.access(file, os.R_OK | os.W_OK)), None)
    if closed is not None:
        return Probe("unusable", f"no permission on {closed}")
    try:
        found = ask()
        cores = visible_cores(environ, sum(device.nc_count for device in found))
    except (DriverError, CoresError) as error:
        return Probe("unusable", str(error))
    if not found:
        return Probe("unusable", f"{files[0]} is there, and neuron-ls lists no device")
    told = _told(found)
    reason = _too_old(found) or software.lacks()
    if reason is not None:
        return Probe("unusable", f"{told}; {reason}")
    return Probe("usable", f"{told}; {software.describe()}", devices=len(cores), score=SCORE)


def environment(options: LaunchOptions) -> Launch:
    """A core for each rank, the compiler's flags and its cache; what the user set stays."""
    return Launch(env=variables(options, os.environ, Path.home()))


def _told(found: tuple[NeuronDevice, ...]) -> str:
    """`16 x trn2.48xlarge device (4 cores, 96 GiB)`."""
    kinds = Counter((one.instance_type or "Neuron", one.nc_count, round(one.memory_size / 2**30)) for one in found)
    return ", ".join(
        f"{count} x {kind} device ({cores} cores, {gib} GiB)" for (kind, cores, gib), count in kinds.items()
    )


def _too_old(found: tuple[NeuronDevice, ...]) -> str | None:
    if found[0].instance_type.startswith(_INFERENTIA_1):
        return "torch-neuronx does not drive the first Inferentia; take Inf2, Trn1 or newer"
    return None
