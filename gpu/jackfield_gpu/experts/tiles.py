"""Tiles of the products over experts. Chosen by reasoning, not yet measured on a GPU; see `linear.tiles`."""

from __future__ import annotations

from collections.abc import Mapping

from jackfield_gpu.arch import Arch
from jackfield_gpu.linear.tiles import Tile

_FEW = 16  # rows an expert, on average, up to which its weights are what takes time

TILES: Mapping[tuple[str, int], tuple[Tile, Tile]] = {
    ("nvidia", 16): (Tile(16, 64, 128, 4, 3), Tile(64, 64, 64, 4, 3)),
    ("nvidia", 32): (Tile(16, 32, 64, 4, 3), Tile(64, 32, 32, 4, 3)),
    ("amd", 16): (Tile(16, 64, 128, 4, 2), Tile(64, 64, 64, 4, 2)),
    ("amd", 32): (Tile(16, 32, 64, 4, 2), Tile(64, 32, 32, 4, 2)),
}
"""By (vendor, bits of an activation): for few rows an expert, and for many."""


def tile_for(arch: Arch, activation_bits: int, pairs: int, num_experts: int) -> Tile:
    """The tile for `pairs` of a token and an expert, which the bucket alone decides."""
    few, many = TILES[arch.vendor, activation_bits]
    return few if pairs <= _FEW * num_experts else many


def most_blocks(pairs: int, num_experts: int, rows: int) -> int:
    """Tiles of `rows` rows that hold the rows of each expert apart, whatever the routing: the last may be part full.

    The sum of ceil(count / rows) over at most min(pairs, experts) counts that are not zero.
    """
    used = min(pairs, num_experts)
    return (pairs + used * (rows - 1)) // rows
