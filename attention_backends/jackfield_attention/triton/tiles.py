"""How large a piece of the scores one program holds at a time, by head size, width of the numbers and kind of GPU.

No kernel is tuned while serving. Chosen by what fits and compiled for the GPUs named here, but not measured on one yet:

- A stage holds `keys` keys and values: `keys * (k_dim + v_dim)` numbers in shared memory. A row of decode reads them
  once and needs many bytes in flight; a prompt reads them for `rows` lines of scores at once.
- The running sum, `rows * v_dim` float32, lives in registers: of the 255 of a thread it should take 128 at most.
- float32 is multiplied without matrix units, so that its tiles are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

LEAST = 16
"""Rows, keys and dims of a tile: what a matrix unit takes."""

INTERPRETER = "interpreter"


class Tile(msgspec.Struct, frozen=True):
    """The work of one step of a program's loop. All but stages are powers of two."""

    rows: int  # (query, head) pairs
    keys: int
    num_warps: int
    num_stages: int


class Tiles(msgspec.Struct, frozen=True):
    """Of one head size: `narrow` for decode, `wide` for prompts. Either has fewer rows where fewer suffice."""

    narrow: Tile
    wide: Tile

    def for_rows(self, wanted: int) -> Tile:
        """The tile for programs that could use `wanted` rows: a power of two of them, at most those of `wide`."""
        rows = min(max(power_of_two(wanted), LEAST), self.wide.rows)
        if rows <= self.narrow.rows and rows < self.wide.rows:
            return msgspec.structs.replace(self.narrow, rows=rows)
        warps = max(min(self.wide.num_warps, 4), self.wide.num_warps * rows // self.wide.rows)
        return msgspec.structs.replace(self.wide, rows=rows, num_warps=warps)


def _tiles(narrow: tuple[int, int, int, int], wide: tuple[int, int, int, int]) -> Tiles:
    return Tiles(Tile(*narrow), Tile(*wide))


_LARGE_SHARED = {  # 160 KiB and more
    (64, 2): _tiles((32, 128, 4, 3), (128, 64, 4, 3)),
    (128, 2): _tiles((32, 64, 4, 3), (128, 64, 8, 3)),
    (256, 2): _tiles((32, 32, 4, 3), (64, 64, 8, 2)),
    (64, 4): _tiles((16, 32, 4, 2), (32, 32, 4, 2)),
    (128, 4): _tiles((16, 32, 4, 2), (32, 32, 4, 2)),
    (256, 4): _tiles((16, 16, 4, 2), (16, 16, 4, 2)),
}
_SMALL_SHARED = {  # 64 to 99 KiB
    (64, 2): _tiles((32, 64, 4, 2), (64, 64, 4, 2)),
    (128, 2): _tiles((32, 32, 4, 2), (64, 32, 4, 2)),
    (256, 2): _tiles((32, 16, 4, 2), (32, 32, 4, 1)),
    (64, 4): _tiles((16, 32, 4, 1), (32, 32, 4, 1)),
    (128, 4): _tiles((16, 16, 4, 1), (32, 16, 4, 1)),
    (256, 4): _tiles((16, 16, 4, 1), (16, 16, 4, 1)),
}
_WAVE64 = {  # 64 KiB, and registers to spare: a stage is prefetched into them
    (64, 2): _tiles((32, 64, 4, 2), (128, 64, 4, 2)),
    (128, 2): _tiles((32, 64, 4, 2), (128, 32, 4, 2)),
    (256, 2): _tiles((32, 32, 4, 2), (64, 32, 4, 2)),
    (64, 4): _tiles((16, 32, 4, 1), (32, 32, 4, 1)),
    (128, 4): _tiles((16, 32, 4, 1), (32, 32, 4, 1)),
    (256, 4): _tiles((16, 16, 4, 1), (16, 16, 4, 1)),
}
_ON_THE_HOST = {(dim, width): _tiles((16, 32, 1, 1), (32, 32, 1, 1)) for dim in (64, 128, 256) for width in (2, 4)}

ATTENTION: Mapping[str, Mapping[tuple[int, int], Tiles]] = {
    "sm_80": _LARGE_SHARED,
    "sm_90": _LARGE_SHARED,
    "sm_100": _LARGE_SHARED,
    "gfx90a": _WAVE64,
    "gfx942": _WAVE64,
    "gfx950": _WAVE64,
    INTERPRETER: _ON_THE_HOST,
}
"""By GPU, then by (largest padded head size, bytes of a query's number); a GPU that is not listed: `_SMALL_SHARED`."""

_LATENT_SMALL = {2: _tiles((16, 16, 4, 1), (16, 16, 4, 1)), 4: _tiles((16, 16, 4, 1), (16, 16, 4, 1))}
LATENT: Mapping[str, Mapping[int, Tiles]] = {
    "sm_80": {2: _tiles((32, 32, 4, 2), (32, 32, 4, 2)), 4: _tiles((16, 16, 4, 1), (16, 16, 4, 1))},
    "sm_90": {2: _tiles((32, 32, 4, 2), (64, 32, 8, 2)), 4: _tiles((16, 16, 4, 1), (16, 16, 4, 1))},
    "sm_100": {2: _tiles((32, 32, 4, 2), (64, 32, 8, 2)), 4: _tiles((16, 16, 4, 1), (16, 16, 4, 1))},
    INTERPRETER: {width: _tiles((16, 32, 1, 1), (32, 32, 1, 1)) for width in (2, 4)},
}
"""Of latents, whose 512 and more numbers a key leave little room, by bytes of a query's number."""


def attention_tiles(arch: str, dim: int, width: int) -> Tiles:
    """Tiles for heads of `dim` numbers (the larger of k's and v's) of `width` bytes."""
    table = ATTENTION.get(arch, _SMALL_SHARED)
    return table[max(64, power_of_two(dim)), width]


def latent_tiles(arch: str, width: int) -> Tiles:
    """Tiles for latents."""
    return LATENT.get(arch, _LATENT_SMALL)[width]


def every_tile(tiles: Tiles) -> Iterator[Tile]:
    """Each tile that `Tiles.for_rows` may give."""
    rows = LEAST
    while rows <= tiles.wide.rows:
        yield tiles.for_rows(rows)
        rows *= 2


def power_of_two(size: int) -> int:
    """The least power of two that is at least `size`."""
    return 1 << max(size - 1, 0).bit_length()


def padded(dim: int) -> int:
    """Numbers of a head as a tile holds them."""
    return max(LEAST, power_of_two(dim))
