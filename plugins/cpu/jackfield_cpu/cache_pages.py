"""When the system gives the pages of a KV cache: as tokens are first written to them, or all of them at the start.

A page that was never used is cleared under the prompt that meets it. On a virtual machine, whose host may have to find
the memory first, that is some percent of a prompt until the whole cache was in use once.
"""

from __future__ import annotations

import os

SWITCH = "JACKFIELD_CPU_KV_CACHE"


def is_resident() -> bool:
    """Whether the user wants all pages at the start. ValueError names what JACKFIELD_CPU_KV_CACHE may be."""
    wanted = os.environ.get(SWITCH, "") or "lazy"
    if wanted not in ("lazy", "resident"):
        raise ValueError(f"{SWITCH} must be 'lazy', 'resident' or unset; got {wanted!r}")
    return wanted == "resident"
