"""The cache of one layer, and how tokens are addressed in it.

Keys and values lie block first, then head: `[num_blocks, kv_heads, block_size, dim]`. One head of one block is
contiguous, so that a gather copies whole runs; and the flat row of a (block, head, offset) does not depend on the
number of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield_platforms.kv import KVSpec, Latent
from jackfield_platforms.linear import torch_dtype


@dataclass(frozen=True)
class PagedCache:
    """Keys and values of one layer."""

    k: Tensor  # [num_blocks, kv_heads, block_size, k_dim]
    v: Tensor  # [num_blocks, kv_heads, block_size, v_dim]

    def write(self, rows: Tensor, k: Tensor, v: Tensor) -> None:
        """Store k and v `[tokens, kv_heads, dim]` at the flat rows `[tokens * kv_heads]`."""
        by_head(self.k).index_copy_(0, rows, k.reshape(-1, k.shape[-1]))
        by_head(self.v).index_copy_(0, rows, v.reshape(-1, v.shape[-1]))

    def token_views(self) -> Mapping[str, Tensor]:
        """By token: `[num_blocks, block_size, kv_heads, dim]`."""
        return {"k": self.k.transpose(1, 2), "v": self.v.transpose(1, 2)}


@dataclass(frozen=True)
class LatentCache:
    """Latents and rotated keys of one layer: keys whose first numbers are the values."""

    k: Tensor  # [num_blocks, 1, block_size, rank + rope_dim]
    rank: int

    @property
    def v(self) -> Tensor:
        """The latents, a view `[num_blocks, 1, block_size, rank]`."""
        return self.k[..., : self.rank]

    def write(self, rows: Tensor, k: Tensor, v: Tensor) -> None:
        """Store k `[tokens, 1, rank + rope_dim]`, of which v is a part, at the flat rows `[tokens]`."""
        by_head(self.k).index_copy_(0, rows, k.reshape(-1, k.shape[-1]))

    def token_views(self) -> Mapping[str, Tensor]:
        """By token: `[num_blocks, block_size, 1, rank + rope_dim]`."""
        return {"latent": self.k.transpose(1, 2)}


Cache = PagedCache | LatentCache


def empty_cache(spec: KVSpec, num_blocks: int, block_size: int, device: torch.device) -> Cache:
    """Room for `num_blocks` blocks, the null block included; contents are undefined."""
    shape, dtype = (num_blocks, spec.kv_heads, block_size), torch_dtype(spec.dtype)
    keys = torch.empty(*shape, spec.k_dim, dtype=dtype, device=device)
    if isinstance(spec, Latent):
        return LatentCache(keys, spec.rank)
    return PagedCache(keys, torch.empty(*shape, spec.v_dim, dtype=dtype, device=device))


def by_head(x: Tensor) -> Tensor:
    """A cache tensor as rows of one (block, head, offset) each, `[rows, dim]`."""
    return x.view(-1, x.shape[-1])


def head_blocks(blocks: npt.NDArray[np.int64], kv_heads: int) -> npt.NDArray[np.int64]:
    """Flat (block, head) indices of block ids `[..., blocks]`, as `[..., kv_heads, blocks]`."""
    return blocks[..., None, :] * kv_heads + np.arange(kv_heads)[:, None]


def head_rows(slots: npt.NDArray[np.int64], kv_heads: int, block_size: int) -> npt.NDArray[np.int64]:
    """Flat rows of slots `[tokens]` (block * block_size + offset), as `[tokens, kv_heads]`."""
    block = slots // block_size
    first = slots + block * ((kv_heads - 1) * block_size)  # of head 0
    return first[:, None] + np.arange(kv_heads) * block_size
