"""The probe of platforms that run through torch-xla on the host: taken by name alone. Imports no torch."""

from __future__ import annotations

from jackfield_platforms.probe import Launch, LaunchOptions, Probe
from jackfield_xla.software import installed

API_VERSION = (0, 1)


def probe() -> Probe:
    """It needs torch-xla, and the torch that this is built for."""
    software = installed()
    reason = software.lacks()
    if reason is not None:
        return Probe("absent", reason, by_name_only=True)
    return Probe("usable", f"{software.describe()}, on the host, for tests", devices=1, by_name_only=True)


def environment(options: LaunchOptions) -> Launch:
    """The runtime reads this once, when the first device is asked for."""
    return Launch(env={"PJRT_DEVICE": "CPU"})
