"""Giving freed memory back to the system while a model is loaded.

The C library keeps what a packed module freed and may not find it again for the next one: blocks of some megabytes, of
many sizes, leave holes between the packed weights. On the GNU C library `malloc_trim` returns those holes; other
libraries return large blocks by themselves, or have no such call. A page that was returned is cleared by the system
before it is used again, so that holes are returned together and not after each module.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_TOGETHER = 64 * 2**20  # bytes


class HostHeap:
    """The process's own heap; nothing is done where the C library has no `malloc_trim`."""

    def __init__(self) -> None:
        self._trim, self._freed = _malloc_trim(), 0

    def freed(self, num_bytes: int) -> None:
        """So many more are free; give the free pages back if that makes enough of them."""
        self._freed += num_bytes
        if self._freed >= _TOGETHER:
            self.give_back()

    def give_back(self) -> None:
        """Give all free pages back."""
        self._trim(0)
        self._freed = 0


def _malloc_trim() -> Callable[[int], object]:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows cannot open the process itself
        return lambda kept: None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
