"""Every kernel of this package with every tile that a GPU may be given, to be compiled ahead of time.

Tiles depend on the width of numbers and not on their kind, so that bfloat16 stands for float16 too but for one tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from jackfield_attention.triton.attention_kernels import attention_kernel
from jackfield_attention.triton.gpu import Gpu
from jackfield_attention.triton.grid import MAX_SPLITS, Grid, tiles_for
from jackfield_attention.triton.latent_kernels import latent_kernel
from jackfield_attention.triton.launch import JOIN_WARPS, WRITE_WARPS
from jackfield_attention.triton.shape import Shape
from jackfield_attention.triton.signature import Signature
from jackfield_attention.triton.split_kernels import join_splits_kernel
from jackfield_attention.triton.tiles import Tile, every_tile
from jackfield_attention.triton.write_kernels import write_kernel
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import KVSpec, Latent, Paged, Windowed

TYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "float8_e4m3fn": "u8", "float8_e4m3fnuz": "u8"}
DIMS = (32, 64, 128, 256)
ODD_DIMS = (80, 96, 112, 120, 192)
_GROUP, _KV_HEADS, _BLOCK = 4, 8, 64
_LATENT_HEADS = 128
_WINDOW = 1024
_PLAN = ("query_start", "num_new", "kv_len", "tile_row", "tile_first")


def signatures(arch: str) -> Iterator[Signature]:
    """All of them for one GPU, such as "sm_90" or "gfx942"."""
    gpu = Gpu(arch, 100)
    fp8 = "float8_e4m3fnuz" if arch == "gfx942" else "float8_e4m3fn"
    for dtype in ("bfloat16", "float32"):
        for dim in DIMS:
            yield from _of_need(paged(dtype, dtype, dim), gpu, splits=True)
            yield from _of_need(everything(dtype, dtype, dim), gpu, splits=True)
        yield from _of_need(latent(dtype, dtype), gpu, splits=True)
    for dim in DIMS:
        yield from _of_need(everything("bfloat16", fp8, dim), gpu, splits=True)
    for dim in ODD_DIMS:
        yield from _of_need(paged("bfloat16", "bfloat16", dim), gpu, splits=False)
    yield from _of_need(paged("float16", "float16", 128), gpu, splits=True)
    yield from _of_need(latent("bfloat16", fp8), gpu, splits=False)
    for need in (paged("bfloat16", "bfloat16", 128), latent("bfloat16", "bfloat16")):
        yield from _writing(need, gpu)
        yield from _joining(need, gpu)
    yield from _writing(everything("bfloat16", fp8, 128), gpu)
    yield from _writing(paged("float32", "float32", 80), gpu)


def paged(query: str, cached: str, dim: int) -> AttentionNeed:
    """Plain heads of `dim`, four to a kv head."""
    return AttentionNeed(Paged(_KV_HEADS, dim, dim, cached), _GROUP * _KV_HEADS, dim**-0.5, query_dtype=query)


def everything(query: str, cached: str, dim: int) -> AttentionNeed:
    """All that a kernel may be asked for beside."""
    kv: KVSpec = Windowed(_KV_HEADS, dim, dim, cached, _WINDOW)
    asked: dict[str, Any] = {"soft_cap": 30.0, "sinks": True, "alibi": True, "kv_scales": True}
    return msgspec.structs.replace(paged(query, cached, dim), kv=kv, **asked)


def latent(query: str, cached: str) -> AttentionNeed:
    """DeepSeek's: 576 numbers a token for 128 heads."""
    return AttentionNeed(Latent(512, 64, cached), _LATENT_HEADS, 576**-0.5, query_dtype=query)


def _label(need: AttentionNeed) -> str:
    asked = "_everything" if need.sinks else ""
    return f"{TYPES[need.query_dtype]}_on_{need.kv.dtype}_{need.kv.k_dim}{asked}"


def _of_need(need: AttentionNeed, gpu: Gpu, *, splits: bool) -> Iterator[Signature]:
    """Every tile, at blocks in which a step of the loop lies whole and at blocks in which it does not."""
    for tile in every_tile(tiles_for(need, gpu)):
        yield _attending(need, gpu, _grid(need, tile, 1), _BLOCK)
        if splits:
            yield _attending(need, gpu, _grid(need, tile, 2), _BLOCK)
            yield _attending(need, gpu, _grid(need, tile, 1), 16)


def _grid(need: AttentionNeed, tile: Tile, splits: int) -> Grid:
    group = need.query_heads // need.kv.kv_heads
    heads = min(group, tile.rows)
    return Grid(tile, tile.rows // heads, heads, -(-group // heads), 64, splits)


def _attending(need: AttentionNeed, gpu: Gpu, grid: Grid, block_size: int) -> Signature:
    query, cached, is_latent = TYPES[need.query_dtype], TYPES[need.kv.dtype], isinstance(need.kv, Latent)
    part = "fp32" if grid.splits > 1 else query
    first = {"q": query, "cache": cached} if is_latent else {"q": query, "k_cache": cached, "v_cache": cached}
    given = {"sinks": need.sinks, "scales": need.kv_scales}
    if not is_latent:
        given = {"sinks": need.sinks, "slopes": need.alibi, "k_scale": need.kv_scales, "v_scale": need.kv_scales}
    strides = ("q_token", "q_head", "block_stride") if is_latent else ("q_token", "q_head", "k_block", "v_block")
    pointers = {
        **first,
        "out": query,
        **dict.fromkeys(("part_out", "part_top", "part_sum"), part),
        **{name: "fp32" if is_given else "i32" for name, is_given in given.items()},
        **dict.fromkeys(("columns", *_PLAN, "table"), "i32"),
    }
    tile = grid.tile
    size = f"{tile.rows}x{tile.keys}_w{tile.num_warps}_s{tile.num_stages}"
    return Signature(
        kernel=latent_kernel if is_latent else attention_kernel,
        name=f"{'latent' if is_latent else 'attention'}_{_label(need)}_b{block_size}_{size}_splits{grid.splits}",
        signature={**_pointers(pointers), "scale": "fp32", "cap": "fp32", **_integers(("num_tokens", *strides))},
        constexprs=Shape.of(need, block_size, gpu).attending(grid),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        aligned=strides,
    )


def _joining(need: AttentionNeed, gpu: Gpu) -> Iterator[Signature]:
    splits = 2
    while splits <= MAX_SPLITS:
        grid = _grid(need, next(every_tile(tiles_for(need, gpu))), splits)
        pointers = {
            **dict.fromkeys(("part_out", "part_top", "part_sum"), "fp32"),
            "out": TYPES[need.query_dtype],
            **dict.fromkeys(_PLAN, "i32"),
        }
        yield Signature(
            kernel=join_splits_kernel,
            name=f"join_splits_{_label(need)}_{splits}",
            signature={**_pointers(pointers), "num_tokens": "i32"},
            constexprs=Shape.of(need, _BLOCK, gpu).joining(grid),
            num_warps=JOIN_WARPS,
            num_stages=1,
        )
        splits *= 2


def _writing(need: AttentionNeed, gpu: Gpu) -> Iterator[Signature]:
    query, cached = TYPES[need.query_dtype], TYPES[need.kv.dtype]
    scale = "fp32" if need.kv_scales else "i32"
    strides = ("q_token", "q_head", "k_token", "k_head", "v_token", "v_head", "k_block", "v_block", "angles_row")
    turned = ((0, False),) if isinstance(need.kv, Latent) else ((0, False), (need.kv.k_dim, False), (32, True))
    for rotary_dim, interleaved in turned:
        pointers = {
            **dict.fromkeys(("q", "k", "v", "q_out"), query),
            **dict.fromkeys(("k_cache", "v_cache"), cached),
            "slots": "i32",
            "angles": "fp32" if rotary_dim else "i32",
            "positions": "i64" if rotary_dim else "i32",
            **dict.fromkeys(("k_scale", "v_scale"), scale),
        }
        yield Signature(
            kernel=write_kernel,
            name=f"write_{_label(need)}_turned{rotary_dim}{'_interleaved' if interleaved else ''}",
            signature={**_pointers(pointers), **_integers(strides)},
            constexprs=Shape.of(need, _BLOCK, gpu).writing(rotary_dim, interleaved),
            num_warps=WRITE_WARPS,
            num_stages=1,
            aligned=strides,
        )


def _pointers(types: Mapping[str, str]) -> dict[str, str]:
    return {name: f"*{kind}" for name, kind in types.items()}


def _integers(names: tuple[str, ...]) -> dict[str, str]:
    return dict.fromkeys(names, "i32")
