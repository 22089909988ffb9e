"""Which torch and torch-xla are installed, and whether they go together. Read from metadata: a probe may ask."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import msgspec


class Software(msgspec.Struct, frozen=True):
    """Versions as the distributions' metadata gives them; None: not installed."""

    torch: str | None
    torch_xla: str | None

    def lacks(self) -> str | None:
        """Why torch-xla cannot be imported or used here, or None.

        torch-xla links against torch's C++ library: a release takes the torch of the same major and minor number and no
        other (README of pytorch/xla, "Installation", where both are installed with one version).
        """
        if self.torch_xla is None:
            return "torch-xla is not installed"
        if self.torch is None:
            return f"torch-xla {self.torch_xla} is installed without torch; install torch {wanted(self.torch_xla)}"
        if wanted(self.torch_xla) != wanted(self.torch):
            return (
                f"torch-xla {self.torch_xla} is built for torch {wanted(self.torch_xla)} and torch {self.torch} is "
                f"installed; install both with one version, in an environment of their own"
            )
        return None

    def describe(self) -> str:
        """For people: `torch 2.9.0, torch-xla 2.9.0`."""
        return f"torch {self.torch or 'missing'}, torch-xla {self.torch_xla or 'missing'}"


def installed() -> Software:
    """What this process would import. Nothing is imported."""
    return Software(_version("torch"), _version("torch_xla"))


def is_installed(module: str) -> bool:
    """Whether a top-level module would be found. Nothing is imported."""
    return find_spec(module) is not None


def wanted(release: str) -> str:
    """The major and minor number of a version, which torch and torch-xla must share: `2.9` of `2.9.0+cpu`."""
    return ".".join(release.split(".")[:2])


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
