"""Linear layers whose weights have 8 or 4 bits and whose activations stay as they are."""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from jackfield_gpu.arch import Arch
from jackfield_gpu.linear.narrow_weight import NarrowWeight, pack, rejects_encoding
from jackfield_gpu.linear.tiles import Tile, splits_for, tile_for
from jackfield_gpu.linear.weight_only_kernels import sum_parts_kernel, weight_only_kernel
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec

SUM_BLOCK = 1024  # numbers that one program sums


class WeightOnlyLinear:
    """A Triton product that widens the weight in registers. Its bytes are read once for all rows of a tile."""

    name = "triton-weight-only"

    def __init__(self, arch: Arch, multiprocessors: int) -> None:
        self._arch, self._multiprocessors = arch, multiprocessors

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if layer.dtype not in self._arch.dtypes:
            return f"{self._arch.name} computes in {', '.join(self._arch.dtypes)}"
        return rejects_encoding(encoding, layer)

    def pack(self, encoded: Encoded) -> NarrowWeight:
        return pack(encoded)

    def apply(self, x: Tensor, packed: NarrowWeight) -> Tensor:
        encoded = packed.encoded
        if encoded.order is not None:
            x = x.index_select(-1, encoded.order)
        x = x if x.stride(-1) == 1 else x.contiguous()
        out = torch.empty(len(x), len(encoded.data), dtype=x.dtype, device=x.device)
        if not len(x):
            return out
        tile = tile_for(self._arch, x.element_size() * 8, len(x))
        columns = packed.columns if encoded.encoding.bits == 4 else min(tile.columns, packed.columns)
        steps = packed.padded_size // columns
        tiles = -(-len(x) // tile.rows) * -(-out.shape[1] // tile.outs)
        each = -(-steps // splits_for(tiles, steps, self._multiprocessors))  # steps of a part
        parts = -(-steps // each)
        tile = msgspec.structs.replace(tile, columns=columns)
        if parts == 1:
            _launch(x, packed, out, tile, each * columns)
            return out
        sums = torch.empty(parts, *out.shape, dtype=torch.float32, device=x.device)
        _launch(x, packed, sums, tile, each * columns)
        count = out.numel()
        sum_parts_kernel[(-(-count // SUM_BLOCK),)](sums, out, count, parts, BLOCK=SUM_BLOCK, num_warps=4)
        return out

    def rows(self, packed: NarrowWeight, ids: Tensor) -> Tensor:
        encoded = packed.encoded
        data = encoded.data[:, : packed.in_size]
        if encoded.encoding.kind == "float":
            data = data.view(torch.float8_e4m3fn)
        return TorchDequantLinear().rows(msgspec.structs.replace(encoded, data=data), ids)


def _launch(x: Tensor, packed: NarrowWeight, out: Tensor, tile: Tile, part_size: int) -> None:
    """Fill out: `[rows, outs]`, or float32 `[parts, rows, outs]`."""
    encoded, encoding = packed.encoded, packed.encoded.encoding
    num_rows, num_outs = out.shape[-2:]
    parts = out.shape[0] if out.dim() == 3 else 1
    assert encoded.scale is not None
    weight_only_kernel[(-(-num_outs // tile.outs), -(-num_rows // tile.rows), parts)](
        x, encoded.data, encoded.scale, packed.zero, packed.bias, out,
        num_rows, num_outs, packed.in_size, packed.padded_size, part_size,
        x.stride(0), encoded.data.stride(0), encoded.scale.shape[1], encoding.group_out,
        BITS=encoding.bits, IS_FLOAT=encoding.kind == "float", GROUP=packed.group,
        HAS_ZERO=encoded.zero is not None, HAS_BIAS=encoded.bias is not None,
        ROWS=tile.rows, OUTS=tile.outs, COLUMNS=tile.columns,
        num_warps=tile.num_warps, num_stages=tile.num_stages,
    )  # fmt: skip
