"""Which of the vendor's packages are installed, read from their metadata and never imported.

The bridge is the distribution habana-torch-plugin, whose module is habana_frameworks.torch; it is in the vendor's own
index and containers (Intel Gaudi documentation, "Installation Guide"), and made for one version of torch.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import msgspec

BRIDGE = "habana-torch-plugin"
INSTALL = "take the vendor's container, or run habanalabs-installer.sh install --type pytorch"


class Software(msgspec.Struct, frozen=True):
    """Versions; None: not installed."""

    torch: str | None
    bridge: str | None

    def lacks(self) -> str | None:
        """Why this cannot drive a device, or None."""
        if self.bridge is None:
            return f"{BRIDGE} is not installed; {INSTALL}"
        return None if self.torch is not None else f"torch is not installed; {INSTALL}"

    def describe(self) -> str:
        """For people: `torch 2.7.1+hpu, habana-torch-plugin 1.22.1.6`."""
        return f"torch {self.torch}, {BRIDGE} {self.bridge}"


def installed() -> Software:
    """What this process would import."""
    return Software(_version("torch"), _version(BRIDGE))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
