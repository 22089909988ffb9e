"""Every kernel of this folder with every tile that serving may launch, to be compiled ahead of time."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from jackfield_attention.triton.signature import Signature
from jackfield_gpu.compiled import Launch, signature
from jackfield_gpu.linear.scaled import BLOCK, FEW_ROWS, MANY_ROWS
from jackfield_gpu.linear.scaled_kernels import round_rows_kernel, scaled_product_kernel
from jackfield_gpu.linear.tiles import TILES, Tile
from jackfield_gpu.linear.weight_only import SUM_BLOCK
from jackfield_gpu.linear.weight_only_kernels import sum_parts_kernel, weight_only_kernel

FLOATS = {"bf16": 16, "fp16": 16, "fp32": 32}  # bits of activations
_GROUPS = (0, 32, 64, 128)  # columns that share a scale; 0: a whole row


class Form(msgspec.Struct, frozen=True):
    """A way of writing weights, as the kernels tell them apart."""

    label: str
    data: str  # Triton's type
    bits: int
    is_float: bool
    has_zero: bool
    scale: str


FORMS = (
    Form("int4", "*u8", 4, False, False, "*fp16"),
    Form("int4_zero", "*u8", 4, False, True, "*fp16"),
    Form("int8", "*i8", 8, False, False, "*fp32"),
    Form("uint8_zero", "*u8", 8, False, True, "*fp16"),
    Form("fp8", "*u8", 8, True, False, "*fp32"),
    Form("int4_scale32", "*u8", 4, False, False, "*fp32"),
    Form("int4_zero_scale32", "*u8", 4, False, True, "*fp32"),
    Form("int8_scale16", "*i8", 8, False, False, "*fp16"),
    Form("uint8_zero_scale32", "*u8", 8, False, True, "*fp32"),
)


def tiles_for(bits: int, vendor: str | None) -> list[Tile]:
    """All tiles for activations of so many bits on a vendor's GPUs, or on any."""
    tables = [table for (of, width), table in TILES.items() if width == bits and vendor in (None, of)]
    lines = [line for table in tables for line in table]
    return list(dict.fromkeys(tile for _, tile in lines))


def columns_of(tile: Tile, form: Form, group: int) -> int:
    """Columns that a tile takes of a weight in this form."""
    most = 64 if form.bits == 4 else tile.columns
    return min(most, group) if group else most


def signatures(vendor: str | None = None) -> Iterator[Signature]:
    """One for each kernel, dtype, form of weight, group and tile of a vendor's GPUs ("nvidia", "amd"; None: of any).

    Native 8-bit floats are in `float8_signatures`.
    """
    for dtype, bits in FLOATS.items():
        for form in FORMS:
            for tile in tiles_for(bits, vendor):
                yield from (_weight_only(dtype, form, group, tile) for group in _GROUPS)
        yield signature(
            sum_parts_kernel,
            f"sum_parts_{dtype}",
            {"parts": "*fp32", "out": f"*{dtype}", "count": "i32", "num_parts": "i32"},
            {"BLOCK": SUM_BLOCK},
            Launch(4),
        )


def _weight_only(dtype: str, form: Form, group: int, tile: Tile) -> Signature:
    columns = columns_of(tile, form, group)
    sizes = ("num_rows", "num_outs", "in_size", "padded_size", "part_size", "x_row", "data_row", "num_groups")
    return signature(
        weight_only_kernel,
        f"weight_only_{dtype}_{form.label}_g{group}_{tile.rows}x{tile.outs}x{columns}_s{tile.num_stages}",
        {
            "x": f"*{dtype}",
            "data": form.data,
            "scale": form.scale,
            "zero": "*i16" if form.has_zero else form.scale,
            "bias": f"*{dtype}",
            "out": f"*{dtype}",
            **dict.fromkeys((*sizes, "group_out"), "i32"),
        },
        {
            "BITS": form.bits,
            "IS_FLOAT": form.is_float,
            "GROUP": group,
            "HAS_ZERO": form.has_zero,
            "HAS_BIAS": False,
            "ROWS": tile.rows,
            "OUTS": tile.outs,
            "COLUMNS": columns,
        },
        Launch(tile.num_warps, tile.num_stages, ("in_size", "padded_size", "part_size", "x_row", "data_row")),
    )


def float8_signatures(float8: str) -> Iterator[Signature]:
    """Kernels over native 8-bit floats, Triton's `fp8e4nv` or `fp8e4b8`, for GPUs that multiply these alone."""
    for dtype in FLOATS:
        for group in (0, BLOCK):
            yield signature(
                round_rows_kernel,
                f"round_rows_{dtype}_{float8}_g{group}",
                {
                    "x": f"*{dtype}",
                    "out": f"*{float8}",
                    "scale": "*fp32",
                    "width": "i32",
                    "x_row": "i32",
                    "most": "fp32",
                },
                {"GROUP": group or 4096},
                Launch(1 if group else 8),
            )
            yield from (_scaled(dtype, float8, group, tile) for tile in (FEW_ROWS, MANY_ROWS))


def _scaled(dtype: str, float8: str, group: int, tile: Tile) -> Signature:
    return signature(
        scaled_product_kernel,
        f"scaled_{dtype}_{float8}_g{group}_{tile.rows}x{tile.outs}x{tile.columns}",
        {
            **dict.fromkeys(("x", "data"), f"*{float8}"),
            **dict.fromkeys(("x_scale", "scale"), "*fp32"),
            **dict.fromkeys(("bias", "out"), f"*{dtype}"),
            **dict.fromkeys(("num_rows", "num_outs", "in_size", "num_groups", "group_out"), "i32"),
        },
        {
            "GROUP": group,
            "HAS_BIAS": False,
            "ROWS": tile.rows,
            "OUTS": tile.outs,
            "COLUMNS": tile.columns,
        },
        Launch(tile.num_warps, tile.num_stages, ("in_size", "num_outs")),
    )
