"""What must be installed beside a TPU, told without importing it."""

from __future__ import annotations

import msgspec

from jackfield_xla import software as xla

INSTALL = 'pip install "jackfield-tpu[xla]"'


class Software(msgspec.Struct, frozen=True):
    """What a launch would import."""

    xla: xla.Software
    has_libtpu: bool
    has_jax: bool  # traces the Pallas kernel of attention

    def lacks(self) -> str | None:
        """Why this cannot drive a TPU, or None."""
        reason = self.xla.lacks()
        if reason is None and not self.has_libtpu:
            reason = "libtpu is not installed, which is the device's driver and compiler"
        return None if reason is None else f"{reason} ({INSTALL})"

    def describe(self) -> str:
        """For people: `torch 2.9.0, torch-xla 2.9.0`; without JAX, what is missed."""
        told = self.xla.describe()
        return told if self.has_jax else f"{told}, no JAX: attention without its kernel"


def installed() -> Software:
    """What this process would import."""
    return Software(xla.installed(), xla.is_installed("libtpu"), xla.is_installed("jax"))
