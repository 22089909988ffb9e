"""Which of the vendor's packages are installed, and whether they are the real ones. Read from metadata, never imported.

PyPI holds placeholders of the same names, whose import raises and whose description begins with "WRONG PACKAGE"; the
packages themselves are in the vendor's own index (AWS Neuron documentation, "PyTorch NeuronX setup").
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Literal

import msgspec

from jackfield_xla import software as xla

INDEX = "https://pip.repos.neuron.amazonaws.com"
INSTALL = f'pip install --extra-index-url={INDEX} "torch-neuronx==2.9.*" "neuronx-cc==2.*"'
_PLACEHOLDER = "WRONG PACKAGE"
_MODULES = {"torch-neuronx": "torch_neuronx", "neuronx-cc": "neuronxcc", "nki": "nki"}

State = Literal["missing", "placeholder", "broken", "installed"]


class Package(msgspec.Struct, frozen=True):
    """One of the vendor's packages."""

    name: str
    state: State
    version: str = ""

    def lacks(self) -> str | None:
        """Why it cannot be used, or None."""
        match self.state:
            case "installed":
                return None
            case "missing":
                return f"{self.name} is not installed; {INSTALL}"
            case "placeholder":
                return (
                    f"{self.name} {self.version} is PyPI's placeholder, not the vendor's package; "
                    f"pip uninstall {self.name}, then {INSTALL}"
                )
            case "broken":
                return f"{self.name} {self.version} is installed without its module {_MODULES[self.name]}; {INSTALL}"


class Software(msgspec.Struct, frozen=True):
    """What a launch on the device needs."""

    torch_neuronx: Package
    compiler: Package
    xla: xla.Software

    def lacks(self) -> str | None:
        """Why this cannot drive the device, or None.

        From torch 2.10 on the vendor's package is another backend, without torch-xla ("Announcing Transition to PyTorch
        Native Support for AWS Trainium"), which this plugin does not drive.
        """
        missing = self.torch_neuronx.lacks() or self.compiler.lacks()
        if missing is None and _release(self.torch_neuronx.version) > (2, 9):
            return (
                f"torch-neuronx {self.torch_neuronx.version} has left torch-xla, through which this plugin compiles; "
                f"{INSTALL}"
            )
        return missing or self.xla.lacks()

    def describe(self) -> str:
        """For people: `torch-neuronx 2.9.0.2.11, neuronx-cc 2.22, torch 2.9.0, torch-xla 2.9.0`."""
        own = ", ".join(f"{package.name} {package.version}" for package in (self.torch_neuronx, self.compiler))
        return f"{own}, {self.xla.describe()}"


def installed() -> Software:
    """What this process would import."""
    return Software(package("torch-neuronx"), package("neuronx-cc"), xla.installed())


def package(name: str) -> Package:
    """The state of one of the vendor's packages."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return Package(name, "missing")
    told = found.read_text("METADATA") or ""
    if _PLACEHOLDER in told:
        return Package(name, "placeholder", found.version)
    state: State = "installed" if find_spec(_MODULES[name]) is not None else "broken"
    return Package(name, state, found.version)


def _release(version: str) -> tuple[int, int]:
    """`(2, 9)` of `2.9.0.2.11`; (0, 0) where the version does not begin so."""
    numbers = version.split(".")[:2]
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and all(map(str.isdigit, numbers)) else (0, 0)
