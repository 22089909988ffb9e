"""The cache of one layer by slots: token after token, so that a step's tokens are one indexed copy into it.

HPU graphs hold no update in place through a view (Intel Gaudi documentation, "Run Inference Using HPU Graphs"), so what
is written is the tensor itself; blocks are a view of it, and only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jackfield_platforms.kv import KVSpec, Latent
from jackfield_platforms.linear import torch_dtype

Index = Tensor  # int64 of what is written, int32 of what is read


@dataclass(frozen=True)
class SlotCache:
    """Keys and values. Without `v`, values are the first `rank` numbers of the keys: latents."""

    k: Tensor  # [slots, kv_heads, k_dim]
    v: Tensor | None  # [slots, kv_heads, v_dim]
    block_size: int
    rank: int = 0

    def write(self, slots: Index, k: Tensor, v: Tensor) -> None:
        """Store k and v `[tokens, kv_heads, dim]`, in the cache's dtype, at `slots` `[tokens]`."""
        _store(self.k, slots, k)
        if self.v is not None:
            _store(self.v, slots, v)

    def keys(self, blocks: Index) -> Tensor:
        """The keys of `blocks` `[n]`: `[n, block_size, kv_heads, k_dim]`."""
        return _blocks(self.k, self.block_size).index_select(0, blocks)

    def values(self, blocks: Index, keys: Tensor) -> Tensor:
        """Their values `[n, block_size, kv_heads, v_dim]`; `keys` are what `keys(blocks)` gave."""
        if self.v is None:
            return keys[..., : self.rank]
        return _blocks(self.v, self.block_size).index_select(0, blocks)

    def token_views(self) -> Mapping[str, Tensor]:
        """By token: `[num_blocks, block_size, kv_heads, dim]`."""
        if self.v is None:
            return {"latent": _blocks(self.k, self.block_size)}
        return {"k": _blocks(self.k, self.block_size), "v": _blocks(self.v, self.block_size)}


def empty_cache(spec: KVSpec, num_blocks: int, block_size: int, device: torch.device) -> SlotCache:
    """Room for `num_blocks` blocks, the null block included; contents are undefined."""
    shape, dtype = (num_blocks * block_size, spec.kv_heads), torch_dtype(spec.dtype)
    keys = torch.empty(*shape, spec.k_dim, dtype=dtype, device=device)
    if isinstance(spec, Latent):
        return SlotCache(keys, None, block_size, spec.rank)
    return SlotCache(keys, torch.empty(*shape, spec.v_dim, dtype=dtype, device=device), block_size)


def _blocks(part: Tensor, block_size: int) -> Tensor:
    blocks: Tensor = part.unflatten(0, (-1, block_size))
    return blocks


def _store(part: Tensor, slots: Index, numbers: Tensor) -> None:
    if part.dtype.itemsize > 1:
        part.index_copy_(0, slots, numbers)
    else:  # torch copies no 8-bit floats by an index on the CPU, and puts them
        part.index_put_((slots,), numbers)
