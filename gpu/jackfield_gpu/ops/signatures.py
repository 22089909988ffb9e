"""Every kernel of this folder with every tile that serving may launch, to be compiled ahead of time."""

from __future__ import annotations

from collections.abc import Iterator

from jackfield_attention.triton.signature import Signature
from jackfield_gpu.compiled import Launch, signature
from jackfield_gpu.ops.argmax_kernels import argmax_parts_kernel, argmax_rows_kernel
from jackfield_gpu.ops.gate_kernels import silu_mul_kernel
from jackfield_gpu.ops.norm_kernels import add_rms_norm_kernel, rms_norm_kernel
from jackfield_gpu.ops.rotary import HEADS
from jackfield_gpu.ops.rotary_kernels import rotary_kernel
from jackfield_gpu.ops.tiles import ARGMAX_BLOCK, ARGMAX_PARTS, GATE_BLOCK, RowTile, row_tile

FLOATS = ("bf16", "fp16", "fp32")
_WIDTHS = (64, 128, 256, 1024, 2048, 4096, 8192, 16384)  # of heads and of hidden states
_WARPS = (32, 64)  # threads of one
_HEAD_DIMS = (32, 64, 128, 256)
_ROTARY_STRIDES = ("q_row", "q_head", "k_row", "k_head")


def signatures() -> Iterator[Signature]:
    """One for each kernel, dtype and tile."""
    for dtype in FLOATS:
        for tile in sorted({row_tile(width, warp) for width in _WIDTHS for warp in _WARPS}, key=_order):
            yield from _norms(dtype, tile)
        yield _gate(dtype)
        yield from (_rotary(dtype, dim, interleaved) for dim in _HEAD_DIMS for interleaved in (False, True))
        yield _argmax_parts(dtype)
    yield signature(
        argmax_rows_kernel,
        "argmax_rows",
        {"tops": "*fp32", "places": "*i32", "out": "*i64"},
        {"PARTS": ARGMAX_PARTS},
        Launch(1),
    )


def _order(tile: RowTile) -> tuple[int, int]:
    return tile.width, tile.num_warps


def _norms(dtype: str, tile: RowTile) -> Iterator[Signature]:
    sizes = {"ROWS": tile.rows, "WIDTH": tile.width}
    label = f"{dtype}_{tile.rows}x{tile.width}_w{tile.num_warps}"
    pointers, numbers = f"*{dtype}", ("count", "width")
    yield signature(
        rms_norm_kernel,
        f"rms_norm_{label}",
        {
            **dict.fromkeys(("x", "weight", "out"), pointers),
            **dict.fromkeys((*numbers, "heads", "x_row", "x_head"), "i32"),
            "eps": "fp32",
        },
        sizes,
        Launch(tile.num_warps, aligned=("width", "x_row", "x_head")),
    )
    yield signature(
        add_rms_norm_kernel,
        f"add_rms_norm_{label}",
        {
            **dict.fromkeys(("partial", "residual", "weight", "out", "total"), pointers),
            **dict.fromkeys((*numbers, "partial_row", "residual_row"), "i32"),
            "eps": "fp32",
        },
        sizes,
        Launch(tile.num_warps, aligned=("width", "partial_row", "residual_row")),
    )


def _gate(dtype: str) -> Signature:
    return signature(
        silu_mul_kernel,
        f"silu_mul_{dtype}",
        {
            **dict.fromkeys(("x", "out"), f"*{dtype}"),
            **dict.fromkeys(("width", "x_row", "x_head", "heads"), "i32"),
        },
        {"BLOCK": GATE_BLOCK},
        Launch(4),
    )


def _rotary(dtype: str, dim: int, interleaved: bool) -> Signature:
    return signature(
        rotary_kernel,
        f"rotary_{dtype}_{dim}{'_interleaved' if interleaved else ''}",
        {
            **dict.fromkeys(("q", "k", "q_out", "k_out"), f"*{dtype}"),
            "table": "*fp32",
            "positions": "*i64",
            **dict.fromkeys(_ROTARY_STRIDES, "i32"),
        },
        {
            "Q_HEADS": 32,
            "K_HEADS": 8,
            "HEADS": HEADS,
            "Q_PROGRAMS": 4,
            "DIM": dim,
            "TILE": dim,
            "ROTARY": dim,
            "INTERLEAVED": interleaved,
        },
        Launch(4, aligned=_ROTARY_STRIDES),
    )


def _argmax_parts(dtype: str) -> Signature:
    return signature(
        argmax_parts_kernel,
        f"argmax_parts_{dtype}",
        {
            "x": f"*{dtype}",
            "tops": "*fp32",
            "places": "*i32",
            **dict.fromkeys(("width", "x_row", "part"), "i32"),
        },
        {"BLOCK": ARGMAX_BLOCK},
        Launch(8),
    )
