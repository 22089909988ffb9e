"""Tiles of the products with narrow weights, by rows, width of the activations and kind of GPU.

No kernel is tuned while serving. Chosen by reasoning, not yet measured on a GPU. A few rows: the weight streams by
once, so that what counts is bytes in flight, and 16 rows are the least that a matrix unit takes. Many rows: the larger
the tile, the more arithmetic for each byte, as far as registers and shared memory hold it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from jackfield_gpu.arch import Arch


class Tile(msgspec.Struct, frozen=True):
    """What one program multiplies at a time: `rows` x `columns` inputs by `columns` x `outs` of the weight."""

    rows: int
    outs: int
    columns: int  # at most; a group of a weight's scales may be narrower
    num_warps: int
    num_stages: int


_FEW, _SOME, _MANY = 16, 64, 1 << 30  # rows, up to which a line of the table holds

TILES: Mapping[tuple[str, int], tuple[tuple[int, Tile], ...]] = {
    ("nvidia", 16): (
        (_FEW, Tile(16, 64, 128, 4, 4)),
        (_SOME, Tile(64, 64, 64, 4, 4)),
        (_MANY, Tile(128, 64, 64, 8, 3)),
    ),
    ("nvidia", 32): (
        (_FEW, Tile(16, 32, 32, 4, 3)),
        (_SOME, Tile(32, 32, 32, 4, 3)),
        (_MANY, Tile(32, 32, 32, 4, 3)),
    ),
    ("amd", 16): (
        (_FEW, Tile(16, 64, 128, 4, 2)),
        (_SOME, Tile(64, 64, 64, 4, 2)),
        (_MANY, Tile(128, 128, 64, 8, 2)),
    ),
    ("amd", 32): (
        (_FEW, Tile(16, 64, 64, 4, 2)),
        (_SOME, Tile(64, 64, 32, 4, 2)),
        (_MANY, Tile(64, 64, 32, 4, 2)),
    ),
}
"""By (vendor, bits of an activation): up to how many rows each tile serves."""

LEAST_COLUMNS = 16
"""Of a tile: what a matrix unit takes at a time."""

MOST_SPLITS = 16
"""Parts that the inputs of one product are cut into, each summed by programs of its own."""


def tile_for(arch: Arch, activation_bits: int, rows: int) -> Tile:
    """The tile for a product of `rows` rows. `rows` is that of the bucket, so that a captured product keeps its own."""
    return next(tile for most, tile in TILES[arch.vendor, activation_bits] if rows <= most)


def columns_within(group: int | None, most: int) -> int:
    """Columns of a tile that lie in one group of `group` (None: a whole row): a power of two, 0 where none is."""
    if group is None:
        return most
    power = group & -group  # the largest that divides it
    return 0 if power < LEAST_COLUMNS else min(power, most)


def splits_for(tiles: int, steps: int, multiprocessors: int) -> int:
    """In how many parts to cut the inputs of a product of so many tiles, each of `steps` steps along the inputs.

    As many as give every multiprocessor two programs, with four steps at least in each part.
    """
    wanted = 2 * multiprocessors // max(tiles, 1)
    return max(1, min(wanted, steps // 4, MOST_SPLITS))
