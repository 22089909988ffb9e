"""The probe of every emulated device: always there, never taken unless asked for by name. Imports no torch."""

from __future__ import annotations

from jackfield_platforms.probe import Launch, LaunchOptions, Probe

API_VERSION = (0, 1)


def probe() -> Probe:
    """It is emulated, so that it works wherever Python does."""
    return Probe("usable", "emulated on the CPU, for tests", devices=1, by_name_only=True)


def environment(options: LaunchOptions) -> Launch:
    """Nothing is needed."""
    return Launch()
