"""Which of the bridge's two modes a process runs in. Imports no torch.

PT_HPU_LAZY_MODE (Intel Gaudi documentation, "Runtime Environment Variables"): 1 collects operations into graphs, 0 runs
them one by one, and whole programs through torch.compile.
"""

from __future__ import annotations

from collections.abc import Mapping

LAZY_MODE = "PT_HPU_LAZY_MODE"


def is_lazy(environ: Mapping[str, str]) -> bool:
    """Whether the user asked for lazy mode; ValueError for what is neither 0 nor 1."""
    value = environ.get(LAZY_MODE, "0")
    if value not in ("0", "1"):
        raise ValueError(f"{LAZY_MODE} must be 0 or 1; got {value!r}")
    return value == "1"
