"""Whether there is a gadget on this machine. Asked in a child process, before torch is imported."""

import os

from jackfield_platforms.probe import Launch, LaunchOptions, Probe

API_VERSION = (0, 1)


def probe() -> Probe:
    """A real device looks for its driver here."""
    if os.environ.get("GADGET_UNPLUGGED"):
        return Probe("absent", "GADGET_UNPLUGGED is set")
    return Probe("usable", "one gadget, made of this machine's processor", devices=1, score=5)


def environment(options: LaunchOptions) -> Launch:
    """What must be set before torch is imported."""
    return Launch()
