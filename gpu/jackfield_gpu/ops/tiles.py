"""How the elementwise kernels cut their work. No kernel is tuned while serving.

Chosen by reasoning, not yet measured on a GPU: a program should have enough bytes in flight to hide the latency of
memory (4 to 16 KiB), and at most 32 numbers of a row in each thread's registers.
"""

from __future__ import annotations

import msgspec

from jackfield_attention.triton.tiles import power_of_two

_NUMBERS = 2048  # of a tile: several short rows share a program
_PER_THREAD = 16  # numbers
_MOST_WARPS = 16


class RowTile(msgspec.Struct, frozen=True):
    """A tile of whole rows."""

    rows: int
    width: int  # a power of two, at least the row's
    num_warps: int


def row_tile(width: int, warp: int) -> RowTile:
    """The tile for rows of `width` numbers on a device whose warps have `warp` threads."""
    wide = power_of_two(width)
    rows = max(1, _NUMBERS // wide)
    return RowTile(rows, wide, warps(rows * wide, warp))


def warps(numbers: int, warp: int) -> int:
    """Warps for a tile of so many numbers: a power of two."""
    return min(_MOST_WARPS, power_of_two(max(1, numbers // (_PER_THREAD * warp))))


GATE_BLOCK = 1024  # numbers of a gated product that one program makes
ARGMAX_BLOCK = 4096  # logits that one program looks at in one go
ARGMAX_PARTS = 16  # programs that share a row
