"""The flat list of (block, tile) entries: which queries form a tile, which blocks a tile reads, at static sizes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield_attention.cache import head_rows
from jackfield_attention.plan_tensors import PlanTensors
from jackfield_attention.slots import Ints, query_lengths, query_slots
from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionNeed, Layout
from jackfield_platforms.bucket import Bucket

MAX_TILE = 32  # queries of a prefill tile, which read their blocks together
NEVER = 1 << 30  # a key position after every query; a block's offset may still be added in int32


class FlatSizes(msgspec.Struct, frozen=True):
    """The static sizes of a plan."""

    tokens: int
    tile: int  # queries a tile
    tiles: int
    entries: int
    kv_heads: int
    block_size: int

    @classmethod
    def of_bucket(cls, bucket: Bucket, need: AttentionNeed, block_size: int) -> FlatSizes:
        """Upper bounds for every layout that fits the bucket.

        With q queries in tiles of t, rows need the sum of ceil(q / t) <= rows + (tokens - rows) / t tiles.
        """
        longest = bucket.query_len or (1 if bucket.phase == "decode" else bucket.num_tokens)
        tile = min(longest, MAX_TILE)
        spare = max(bucket.num_tokens - bucket.num_rows, 0)
        tiles = min(bucket.num_tokens, bucket.num_rows + spare // tile)
        window = window_of(need.kv)
        blocks = bucket.max_blocks
        if window is not None:
            blocks = min(blocks, -(-(window + tile - 1) // block_size) + 1)
        entries, tiles_a_row = tiles * blocks, -(-longest // tile)
        if bucket.num_blocks:  # a row of several tiles lists its blocks for each
            entries = min(entries, bucket.num_blocks * tiles_a_row)
        return cls(bucket.num_tokens, tile, tiles, entries, need.kv.kv_heads, block_size)


@dataclass
class FlatPlan(PlanTensors):
    """Tensors on the device; every shape follows from the bucket. Padding reads the null block, never in sight."""

    written: Tensor  # int64 [tokens * kv_heads] flat cache rows of the query tokens
    tile_tokens: Tensor  # int64 [tiles, tile] query token of each place; 0 where the tile is padded
    tile_positions: Tensor  # int32 [tiles, tile] position of that token in its row; -1 where padded
    token_places: Tensor  # int64 [tokens] where each token's output is, in tiles * tile; tokens of no tile: 0
    blocks: Tensor  # int64 [entries] block to read
    tiles: Tensor  # int64 [entries] tile that reads it
    positions: Tensor  # int32 [entries] position of the block's first key; NEVER where padded

    @classmethod
    def blank(cls, sizes: FlatSizes, device: torch.device) -> FlatPlan:
        """A plan that holds no row."""
        return cls(*(torch.from_numpy(array).to(device) for array in _empty(sizes)))


def _empty(sizes: FlatSizes) -> list[npt.NDArray[np.generic]]:
    return [
        np.zeros(sizes.tokens * sizes.kv_heads, np.int64),
        np.zeros((sizes.tiles, sizes.tile), np.int64),
        np.full((sizes.tiles, sizes.tile), -1, np.int32),
        np.zeros(sizes.tokens, np.int64),
        np.zeros(sizes.entries, np.int64),
        np.zeros(sizes.entries, np.int64),
        np.full(sizes.entries, NEVER, np.int32),
    ]


class Tiles(msgspec.Struct):
    """The tiles of a layout, in row order. All `[tiles]`."""

    row: Ints
    first: Ints  # query token
    count: Ints  # queries
    position: Ints  # of the first query in its row
    first_block: Ints  # column of the block table
    blocks: Ints  # blocks read

    @classmethod
    def of(cls, layout: Layout, tile: int, need: AttentionNeed, block_size: int) -> Tiles:
        """Cut each row's queries into tiles."""
        lengths = query_lengths(layout)
        row, index = ragged(-(-lengths // tile))
        begin = index * tile
        count = np.minimum(lengths[row] - begin, tile)
        position = layout.kv_len[row] - lengths[row] + begin
        window = window_of(need.kv)
        oldest = np.zeros_like(position) if window is None else np.maximum(position - window + 1, 0)
        first_block = oldest // block_size
        blocks = -(-(position + count) // block_size) - first_block
        return cls(row, layout.query_start[row] + begin, count, position, first_block, blocks)


def ragged(counts: Ints) -> tuple[Ints, Ints]:
    """For `counts[i]` entries of each i: i, and the entry's index among them."""
    owner = np.repeat(np.arange(counts.size), counts)
    return owner, np.arange(owner.size) - np.repeat(np.cumsum(counts) - counts, counts)


def flat_arrays(layout: Layout, tiles: Tiles, sizes: FlatSizes) -> list[npt.NDArray[np.generic]]:
    """The plan's arrays for a layout; ValueError when it does not fit `sizes`."""
    entries = int(tiles.blocks.sum())
    found, room = (layout.num_tokens, tiles.row.size, entries), (sizes.tokens, sizes.tiles, sizes.entries)
    if any(have > most for have, most in zip(found, room, strict=True)):
        raise ValueError(f"The bucket holds {room} (tokens, tiles, entries), the step needs {found}; use a larger one")
    arrays = _empty(sizes)
    _, tile_tokens, tile_positions, places, blocks, owners, positions = arrays
    slots = query_slots(layout, query_lengths(layout), sizes.block_size, sizes.tokens)
    arrays[0] = head_rows(slots, sizes.kv_heads, sizes.block_size).ravel()
    tile, within = ragged(tiles.count)
    tile_tokens[tile, within] = tiles.first[tile] + within
    tile_positions[tile, within] = tiles.position[tile] + within
    places[tiles.first[tile] + within] = tile * sizes.tile + within
    owner, index = ragged(tiles.blocks)
    column = tiles.first_block[owner] + index
    blocks[:entries] = layout.block_table[tiles.row[owner], column]
    owners[:entries] = owner
    positions[:entries] = column * sizes.block_size
    return arrays
