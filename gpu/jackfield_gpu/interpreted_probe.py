"""The probe of platforms that run a GPU's kernels on the host: taken by name alone. Imports no torch."""

from __future__ import annotations

import importlib.util

from jackfield_platforms.probe import Launch, LaunchOptions, Probe

API_VERSION = (0, 1)


def probe() -> Probe:
    """It needs nothing but Triton."""
    if importlib.util.find_spec("triton") is None:
        return Probe("absent", "triton is not installed")
    return Probe("usable", "Triton's interpreter on the host, for tests", devices=1, by_name_only=True)


def environment(options: LaunchOptions) -> Launch:
    """Triton reads this once, when it is imported."""
    return Launch(env={"TRITON_INTERPRET": "1"})
