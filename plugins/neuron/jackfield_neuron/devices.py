"""Neuron devices as the vendor's tool `neuron-ls` lists them. Imports no torch.

Options and fields are those of the AWS Neuron documentation, "Neuron LS User Guide" (`neuron-ls --json-output`).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import msgspec

FOLDER = Path("/opt/aws/neuron/bin")  # where the package aws-neuronx-tools puts it, which need not be on PATH
_SECONDS = 8.0


class NeuronDevice(msgspec.Struct, frozen=True):
    """One chip; fields that are not read here are left out, since releases add some."""

    neuron_device: int
    nc_count: int  # cores that a process can take; logical ones, where two physical cores act as one
    memory_size: int  # bytes, of all its cores together
    logical_neuroncore_config: int = 1  # physical cores in each of them
    instance_type: str = ""

    @property
    def core_bytes(self) -> int:
        """The share of one core."""
        return self.memory_size // self.nc_count


class DriverError(Exception):
    """The devices cannot be listed. The message is the tool's own, or says what to install."""


def listed(output: bytes) -> tuple[NeuronDevice, ...]:
    """What the tool wrote; DriverError when that is no list of devices."""
    try:
        devices = msgspec.json.decode(output, type=tuple[NeuronDevice, ...])
    except msgspec.MsgspecError as error:
        raise DriverError(f"neuron-ls --json-output wrote something unexpected: {error}") from error
    if any(device.nc_count < 1 for device in devices):
        raise DriverError("neuron-ls --json-output lists a device without cores")
    return devices


def ask() -> tuple[NeuronDevice, ...]:
    """Run the tool."""
    tool = shutil.which("neuron-ls", path=str(FOLDER)) or shutil.which("neuron-ls")
    if tool is None:
        raise DriverError(f"neuron-ls is neither in {FOLDER} nor on PATH; install aws-neuronx-tools")
    try:
        done = subprocess.run([tool, "--json-output"], capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DriverError(f"neuron-ls cannot be run: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DriverError(f"neuron-ls ended with status {done.returncode}: {said[-1] if said else 'it said nothing'}")
    return listed(done.stdout)
