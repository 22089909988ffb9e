"""Giving freed memory back to the system while a model is loaded.

The C library keeps what a packed module freed and may not find it again for the next one: blocks of some megabytes, of
many sizes, leave holes between the packed weights. On the GNU C library `malloc_trim` returns those holes; other
libraries return large blocks by themselves, or have no such call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def heap_trimmer() -> Callable[[], None]:
    """What gives the free pages of the process's heap back; does nothing where the C library has no `malloc_trim`."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows cannot open the process itself
        return lambda: None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int

    def give_back() -> None:
        trim(0)

    return give_back
