"""What a layer keeps between steps. A model states one of these per layer; layers with equal specs share a KV group.

Every kind says which numbers a token has in the canonical form, `parts`: name to (heads, numbers a head).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Paged(msgspec.Struct, frozen=True, tag=True):
    """Keys and values of every token. Sizes in elements per head; `dtype` is a torch name."""

    kv_heads: int
    k_dim: int
    v_dim: int
    dtype: str

    @property
    def parts(self) -> Mapping[str, tuple[int, int]]:
        return {"k": (self.kv_heads, self.k_dim), "v": (self.kv_heads, self.v_dim)}


class Windowed(msgspec.Struct, frozen=True, tag=True):
    """Keys and values of the last `window` tokens: a token attends to itself and the `window - 1` before it."""

    kv_heads: int
    k_dim: int
    v_dim: int
    dtype: str
    window: int

    @property
    def parts(self) -> Mapping[str, tuple[int, int]]:
        return {"k": (self.kv_heads, self.k_dim), "v": (self.kv_heads, self.v_dim)}


class Latent(msgspec.Struct, frozen=True, tag=True):
    """One latent vector and one rotated key of every token, which all heads share (DeepSeek-V2, 2024).

    Attention is in the absorbed form: to the backend it is one KV head, whose keys are the latent of `rank` numbers and
    behind it the rotated key of `rope_dim`, and whose values are the latent. It is kept once: `rank + rope_dim` numbers
    a token.
    """

    rank: int
    rope_dim: int
    dtype: str

    @property
    def kv_heads(self) -> int:
        """One head, read by all query heads."""
        return 1

    @property
    def k_dim(self) -> int:
        """The latent and the rotated key."""
        return self.rank + self.rope_dim

    @property
    def v_dim(self) -> int:
        """The latent: the first numbers of the key."""
        return self.rank

    @property
    def parts(self) -> Mapping[str, tuple[int, int]]:
        return {"latent": (1, self.rank + self.rope_dim)}


KVSpec = Paged | Windowed | Latent
"""`State` and `NoCache` of the design join this union with the first model that needs them."""


def numbers_a_token(spec: KVSpec) -> int:
    """How many numbers one token takes in one layer."""
    return sum(heads * dim for heads, dim in spec.parts.values())
