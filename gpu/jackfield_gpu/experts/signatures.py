"""Every kernel of this folder with every tile that serving may launch, to be compiled ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jackfield_attention.triton.signature import Signature
from jackfield_gpu.compiled import Launch, signature
from jackfield_gpu.experts.expert_kernels import combine_kernel, down_kernel, gate_up_kernel
from jackfield_gpu.experts.expert_weights import PLAIN
from jackfield_gpu.experts.experts import COMBINE_BLOCK
from jackfield_gpu.experts.tiles import TILES
from jackfield_gpu.linear.signatures import FLOATS, FORMS, Form, columns_of
from jackfield_gpu.linear.tiles import Tile

_COUNTS = (8, 64, 128, 256)  # experts
_TOPS = (1, 2, 4, 6, 8)
_GROUPS = (0, 128)
_ALIGNED = ("inner", "num_outs", "in_size", "padded_size", "x_row", "data_row")


def signatures(vendor: str | None = None) -> Iterator[Signature]:
    """One for each kernel, dtype, form of weight, number of experts and tile of a vendor's GPUs (None: of any)."""
    for dtype, bits in FLOATS.items():
        pairs = [pair for (of, width), pair in TILES.items() if width == bits and vendor in (None, of)]
        tiles = dict.fromkeys(tile for pair in pairs for tile in pair)
        for tile in tiles:
            yield from _both(dtype, Form("plain", f"*{dtype}", PLAIN, True, False, f"*{dtype}"), 0, tile, _COUNTS)
            for form in FORMS:
                for group in _GROUPS:
                    yield from _both(dtype, form, group, tile, _COUNTS[:1])
        for top in _TOPS:
            yield signature(
                combine_kernel,
                f"combine_{dtype}_{top}",
                {"products": f"*{dtype}", "share": "*fp32", "out": f"*{dtype}", "width": "i32"},
                {"TOP": top, "BLOCK": COMBINE_BLOCK},
                Launch(4),
            )


def _both(dtype: str, form: Form, group: int, tile: Tile, counts: tuple[int, ...]) -> Iterator[Signature]:
    gate_up = ("num_experts", "top", "inner", "in_size", "padded_size", "x_row", "data_row", "num_groups", "group_out")
    down = ("num_experts", "num_outs", "in_size", "padded_size", "data_row", "num_groups", "group_out")
    for count in counts:
        yield _signature(("gate_up", gate_up_kernel, gate_up), dtype, form, group, tile, count)
        yield _signature(("down", down_kernel, down), dtype, form, group, tile, count)


def _signature(
    what: tuple[str, Any, tuple[str, ...]], dtype: str, form: Form, group: int, tile: Tile, count: int
) -> Signature:
    label, kernel, sizes = what
    columns = tile.columns if form.bits == PLAIN else columns_of(tile, form, group)
    return signature(
        kernel,
        f"experts_{label}_{dtype}_{form.label}_g{group}_e{count}_{tile.rows}x{tile.outs}x{columns}_s{tile.num_stages}",
        {
            "x": f"*{dtype}",
            "data": form.data,
            "offsets": "*i64",
            "scale": form.scale,
            "scale_offsets": "*i64",
            "zero": "*i16" if form.has_zero else form.scale,
            "zero_offsets": "*i64",
            "order": "*i64",
            "starts": "*i32",
            "blocks": "*i32",
            "out": f"*{dtype}",
            **dict.fromkeys(sizes, "i32"),
        },
        {
            "BITS": form.bits,
            "IS_FLOAT": form.is_float,
            "GROUP": group,
            "HAS_ZERO": form.has_zero,
            "EXPERTS": count,
            "ROWS": tile.rows,
            "OUTS": tile.outs,
            "COLUMNS": columns,
        },
        Launch(tile.num_warps, tile.num_stages, tuple(size for size in sizes if size in _ALIGNED)),
    )
