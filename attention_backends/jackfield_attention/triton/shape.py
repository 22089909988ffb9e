"""What is compiled into the kernels of a KV group, beside the tiles of a bucket."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from jackfield_attention.triton.gpu import Gpu
from jackfield_attention.triton.grid import Grid
from jackfield_attention.triton.tiles import padded
from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import Latent

FLOAT8 = {"float8_e4m3fn": 1, "float8_e4m3fnuz": 2}
"""How kernels take 8-bit floats apart (`float8_kernels.widened`); 0: cached numbers are wider."""

NATIVE_E4M3FN = 3

_WRITTEN_NUMBERS = 1024  # that one program writes: 8 for each thread of 4 warps


class Shape(msgspec.Struct, frozen=True):
    """Constants of a need on a GPU."""

    need: AttentionNeed
    block_size: int
    fp8: int

    @classmethod
    def of(cls, need: AttentionNeed, block_size: int, gpu: Gpu) -> Shape:
        """Constants for a backend's blocks."""
        fp8 = FLOAT8.get(need.kv.dtype, 0)
        return cls(need, block_size, NATIVE_E4M3FN if fp8 == 1 and gpu.converts_e4m3fn else fp8)

    @property
    def is_latent(self) -> bool:
        """Whether values are a part of the keys."""
        return isinstance(self.need.kv, Latent)

    @property
    def scales(self) -> tuple[float, float]:
        """(scale, cap) as the kernels want them: scores in units of log2(e); with a cap its tanh is taken before."""
        if self.need.soft_cap is None:
            return self.need.scale * math.log2(math.e), 1.0
        return self.need.scale / self.need.soft_cap, self.need.soft_cap * math.log2(math.e)

    def attending(self, grid: Grid) -> dict[str, Any]:
        """Constants of the kernel that attends: `attention_kernel`, or `latent_kernel`."""
        kv, need = self.need.kv, self.need
        shared = {
            "GROUP": need.query_heads // kv.kv_heads,
            "ROWS": grid.tile.rows,
            "QUERIES": grid.queries,
            "HEADS": grid.heads,
            "KEYS": grid.tile.keys,
            "BLOCK_SIZE": self.block_size,
            "HAS_CAP": need.soft_cap is not None,
            "HAS_SINKS": need.sinks,
            "HAS_SCALES": need.kv_scales,
            "FP8": self.fp8,
            "IS_SPLIT": grid.splits > 1,
        }
        if isinstance(kv, Latent):
            sizes = {"RANK": kv.rank, "RANK_TILE": padded(kv.rank), "ROPE": kv.rope_dim}
            return {**shared, **sizes, "ROPE_TILE": padded(kv.rope_dim)}
        return {
            **shared,
            "KV_HEADS": kv.kv_heads,
            "CHUNKS": grid.chunks,
            "K_DIM": kv.k_dim,
            "K_TILE": padded(kv.k_dim),
            "V_DIM": kv.v_dim,
            "V_TILE": padded(kv.v_dim),
            "WINDOW": window_of(kv) or 0,
            "HAS_SLOPES": need.alibi,
        }

    def joining(self, grid: Grid) -> dict[str, Any]:
        """Constants of `join_splits_kernel`."""
        dim = self.need.kv.v_dim
        sizes = {"V_DIM": dim, "V_TILE": padded(dim), "SPLITS": grid.splits}
        return {"QUERY_HEADS": self.need.query_heads, "QUERIES": grid.queries, **sizes}

    def writing(self, rotary_dim: int, interleaved: bool) -> dict[str, Any]:
        """Constants of `write_kernel`; without a rotary embedding `rotary_dim` is 0."""
        kv, tile = self.need.kv, padded(self.need.kv.k_dim)
        v_dim = 0 if self.is_latent else kv.v_dim
        heads = max(1, _WRITTEN_NUMBERS // tile)
        return {
            "Q_HEADS": self.need.query_heads,
            "KV_HEADS": kv.kv_heads,
            "HEADS": heads,
            "Q_PROGRAMS": -(-self.need.query_heads // heads) if rotary_dim else 0,
            "BLOCK_SIZE": self.block_size,
            "K_DIM": kv.k_dim,
            "K_TILE": tile,
            "V_DIM": v_dim,
            "V_TILE": padded(v_dim),
            "ROTARY": rotary_dim,
            "INTERLEAVED": interleaved,
            "HAS_SCALES": self.need.kv_scales,
            "FP8": self.fp8,
        }
