"""How many programs attend in one launch, and to what: fixed by the bucket, so that a launch can be captured."""

from __future__ import annotations

import msgspec

from jackfield_attention.triton.gpu import Gpu
from jackfield_attention.triton.tiles import Tile, Tiles, attention_tiles, latent_tiles
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Latent
from jackfield_platforms.linear import torch_dtype

PROGRAMS_EACH = 4  # that a multiprocessor should have to hide the latency of its loads
MAX_SPLITS = 64
LEAST_STEPS = 2  # of a program's loop that a split should leave


class Grid(msgspec.Struct, frozen=True):
    """Programs are `tiles` x `kv_heads * chunks` x `splits`.

    A program holds `queries` query tokens of one row, and of each `heads` of the query heads that share a kv head.
    """

    tile: Tile
    queries: int  # query tokens of a tile
    heads: int  # query heads of a tile
    chunks: int  # tiles that share the query heads of a kv head
    tiles: int  # of all rows together, at most
    splits: int  # programs that share the keys of a tile

    @classmethod
    def of(cls, bucket: Bucket, need: AttentionNeed, gpu: Gpu, max_keys: int) -> Grid:
        """The grid of every layout that fits `bucket`, in which no row has more than `max_keys` keys.

        With q queries in tiles of t, rows need the sum of ceil(q / t) <= rows + (tokens - rows) / t tiles.
        """
        group = need.query_heads // need.kv.kv_heads
        longest = bucket.query_len or (1 if bucket.is_uniform else bucket.num_tokens)
        tile = tiles_for(need, gpu).for_rows(group * longest)
        heads = min(group, tile.rows)
        queries = min(longest, tile.rows // heads)
        spare = max(bucket.num_tokens - bucket.num_rows, 0)
        tiles = min(bucket.num_tokens, bucket.num_rows + spare // queries)
        chunks = -(-group // heads)
        programs = max(tiles * need.kv.kv_heads * chunks, 1)
        return cls(tile, queries, heads, chunks, tiles, splits_for(programs, gpu, max_keys, tile.keys))


def tiles_for(need: AttentionNeed, gpu: Gpu) -> Tiles:
    """The tiles that the layers of `need` may be given."""
    width = torch_dtype(need.query_dtype).itemsize
    if isinstance(need.kv, Latent):
        return latent_tiles(gpu.arch, width)
    return attention_tiles(gpu.arch, max(need.kv.k_dim, need.kv.v_dim), width)


def splits_for(programs: int, gpu: Gpu, max_keys: int, keys: int) -> int:
    """In how many parts to cut each row's keys (Flash-Decoding, Dao et al., 2023): a power of two.

    As many as keep every multiprocessor busy. It is a bound for all rows of all layouts: a row that is too short for so
    many parts leaves programs idle, which end at once.
    """
    wanted = PROGRAMS_EACH * gpu.multiprocessors // programs
    most = max_keys // (LEAST_STEPS * keys)
    return 1 << (max(1, min(wanted, most, MAX_SPLITS)).bit_length() - 1)
