"""Compiled programs on disk, so that a second start need not compile them again."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

VARIABLE = "JACKFIELD_XLA_CACHE"
"""The folder; unset or empty: compiled programs are forgotten at the end."""

_TAKEN = "XLA_PERSISTENT_CACHE_PATH"  # where torch-xla itself keeps what `initialize_cache` was given


def use_folder(environ: MutableMapping[str, str] = os.environ) -> str | None:
    """Let torch-xla read and write compiled programs in the user's folder, and return it; None: there is none.

    `torch_xla.runtime.initialize_cache(path)` must be called before anything is computed, and once a process (its
    docstring). Whoever may write to the folder can change what runs here.
    """
    folder = environ.get(VARIABLE)
    if not folder:
        return None
    if environ.get(_TAKEN) != folder:
        from torch_xla import runtime

        os.makedirs(folder, exist_ok=True)
        runtime.initialize_cache(folder)
    return folder
