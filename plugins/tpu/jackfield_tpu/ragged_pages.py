"""Keys and values in the layout of TPU's ragged kernel, and a step as that kernel wants it told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_attention.plan_tensors import PlanTensors
from jackfield_attention.slots import Ints, query_lengths, query_slots
from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionNeed, Layout
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import KVSpec

LANES = 128  # numbers in a row of a TPU's vector registers: head sizes are padded to a multiple
Arrays = list[npt.NDArray[np.generic]]


def padded_dim(spec: KVSpec) -> int:
    """Numbers that a head's key, and its value, take in the cache."""
    return -(-max(spec.k_dim, spec.v_dim) // LANES) * LANES


def widened(x: Tensor, dim: int) -> Tensor:
    """`x` with zeros behind each head's numbers, so that they are `dim`."""
    return F.pad(x, (0, dim - x.shape[-1])) if x.shape[-1] < dim else x


@dataclass(frozen=True)
class RaggedPages:
    """One layer's cache: each token's heads one after another, a head's key before its value."""

    pages: Tensor  # [num_blocks, block_size, 2 * kv_heads, padded dim]
    k_dim: int
    v_dim: int

    @classmethod
    def empty(
        cls, spec: KVSpec, num_blocks: int, block_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> RaggedPages:
        """Room for `num_blocks` blocks, all zeros: the null block must never hold what is not a number."""
        shape = num_blocks, block_size, 2 * spec.kv_heads, padded_dim(spec)
        return cls(torch.zeros(shape, dtype=dtype, device=device), spec.k_dim, spec.v_dim)

    def write(self, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Store k and v `[tokens, kv_heads, dim]` at `slots` `[tokens]`; what goes to the null block is made 0.

        The kernel hides a key by adding to its score, so that a NaN in a block that a window has left would come
        through; such blocks are shown to it as the null block.
        """
        _, block_size, heads, dim = self.pages.shape
        both = torch.stack((widened(k, dim), widened(v, dim)), 2).flatten(1, 2)  # [tokens, 2 * kv_heads, dim]
        kept = torch.where((slots >= block_size)[:, None, None], both, 0).to(self.pages.dtype)
        self.pages.view(-1, heads, dim).index_copy_(0, slots, kept)

    def token_views(self) -> Mapping[str, Tensor]:
        """By token: `[num_blocks, block_size, kv_heads, dim]`."""
        return {"k": self.pages[:, :, 0::2, : self.k_dim], "v": self.pages[:, :, 1::2, : self.v_dim]}


@dataclass
class RaggedPlan(PlanTensors):
    """Tensors on the device; every shape follows from the bucket."""

    slots: Tensor  # int64 [tokens] where each token is written: block * block_size + offset, 0 for padding
    kv_len: Tensor  # int32 [rows]
    block_table: Tensor  # int32 [rows, max_blocks]
    query_start: Tensor  # int32 [rows + 1], of rows that follow one another without a gap
    num_rows: Tensor  # int32 [1] rows that the kernel looks at
    packed: Tensor  # int64 [tokens] which token is at each place of such rows; empty where tokens are in order
    places: Tensor  # int64 [tokens] the place of each token; empty where they are in order

    @classmethod
    def blank(cls, bucket: Bucket, device: torch.device) -> RaggedPlan:
        """A plan that holds no row."""
        tokens, rows = bucket.num_tokens, bucket.num_rows
        order = tokens if has_gaps(bucket) else 0
        sizes = (rows,), (rows, bucket.max_blocks), (rows + 1,), (1,)
        return cls(
            torch.zeros(tokens, dtype=torch.int64, device=device),
            *(torch.zeros(size, dtype=torch.int32, device=device) for size in sizes),
            *(torch.zeros(order, dtype=torch.int64, device=device) for _ in range(2)),
        )


def has_gaps(bucket: Bucket) -> bool:
    """Whether rows begin at fixed places, so that tokens of one need not follow those of the last."""
    return bucket.query_len is not None and bucket.query_len > 1


def ragged_arrays(layout: Layout, bucket: Bucket, need: AttentionNeed, block_size: int) -> Arrays:
    """The plan's arrays for a layout; ValueError when it does not fit the bucket."""
    lengths, rows = query_lengths(layout), layout.num_rows
    blocks = -(-layout.kv_len[:rows].astype(np.int64) // block_size)
    width = bucket.max_blocks or int(blocks.max(initial=1))
    found, room = (rows, layout.num_tokens, int(blocks.max(initial=0))), (bucket.num_rows, bucket.num_tokens, width)
    if any(have > most for have, most in zip(found, room, strict=True)):
        raise ValueError(
            f"The bucket holds {room} (rows, tokens, blocks a row), the step needs {found}; use a larger one"
        )
    kv_len, query_start = np.zeros(bucket.num_rows, np.int32), np.zeros(bucket.num_rows + 1, np.int32)
    kv_len[:rows] = layout.kv_len[:rows]
    np.cumsum(lengths, out=query_start[1 : rows + 1])
    query_start[rows + 1 :] = query_start[rows]
    if not rows:  # the kernel fetches a first page before it counts rows: give it one to read
        kv_len[0] = query_start[1:] = 1
    return [
        query_slots(layout, lengths, block_size, bucket.num_tokens),
        kv_len,
        _table(layout, bucket.num_rows, width, first=_first_blocks(layout, lengths, need, block_size), end=blocks),
        query_start,
        np.array([max(rows, 1)], np.int32),
        *(_order(layout, lengths, bucket.num_tokens) if has_gaps(bucket) else (np.zeros(0, np.int64),) * 2),
    ]


def _first_blocks(layout: Layout, lengths: Ints, need: AttentionNeed, block_size: int) -> Ints:
    """The first block of each row that its oldest query sees, `[rows]`."""
    window = window_of(need.kv)
    if window is None:
        return np.zeros(len(lengths), np.int64)
    oldest: Ints = layout.kv_len[: len(lengths)] - lengths - window + 1
    first: Ints = np.maximum(oldest, 0) // block_size
    return first


def _table(layout: Layout, rows: int, width: int, *, first: Ints, end: Ints) -> npt.NDArray[np.int32]:
    """The block table, with the null block wherever no query of the row looks."""
    table, held = np.zeros((rows, width), np.int32), min(width, layout.block_table.shape[1])
    given = layout.block_table[: len(first), :held]
    column = np.arange(held)
    table[: len(first), :held] = np.where((column >= first[:, None]) & (column < end[:, None]), given, 0)
    return table


def _order(layout: Layout, lengths: Ints, num_tokens: int) -> tuple[Ints, Ints]:
    """`RaggedPlan.packed` and `RaggedPlan.places`."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(row.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    packed, places = np.zeros(num_tokens, np.int64), np.zeros(num_tokens, np.int64)
    packed[: row.size] = layout.query_start[row] + within
    places[packed[: row.size]] = np.arange(row.size)
    return packed, places
