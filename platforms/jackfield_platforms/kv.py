"""What a layer keeps between steps. A model states one of these per layer; layers with equal specs share a KV group."""

from __future__ import annotations

import msgspec


class Paged(msgspec.Struct, frozen=True, tag=True):
    """Keys and values of every token. Sizes in elements per head; `dtype` is a torch name."""

    kv_heads: int
    k_dim: int
    v_dim: int
    dtype: str


class Windowed(msgspec.Struct, frozen=True, tag=True):
    """Keys and values of the last `window` tokens: a token attends to itself and the `window - 1` before it."""

    kv_heads: int
    k_dim: int
    v_dim: int
    dtype: str
    window: int


KVSpec = Paged | Windowed
"""`Latent`, `State` and `NoCache` of the design join this union with the first model that needs them."""
