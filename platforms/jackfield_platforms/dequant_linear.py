"""Multiplying by any encoded weight in plain torch: what is right, and what serves where nothing better does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, Packed, torch_dtype
from jackfield_platforms.nibbles import unpack_nibbles

_PANEL_NUMBERS = 2**20  # dequantised at a time: 4 MiB of float32
_BITS = {"int": (4, 8), "float": (8,)}


class TorchDequantLinear:
    """The reference: the weight stays encoded, and each product dequantises it anew, a panel of rows at a time.

    Numbers are dequantised in float32 and rounded to the activations' dtype. Memory is that of the encoded weight and
    of one panel; every step dequantises the whole weight, so that a device's own op should come first.
    """

    name = "torch-dequant"

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if encoding.is_plain:
            return "dequantises, and plain floats need not be"
        if encoding.bits not in _BITS[encoding.kind]:
            return f"dequantises 4- and 8-bit ints and 8-bit floats, not {encoding.describe()}"
        return None if encoding.scale is not None else f"{encoding.describe()} has no scale to dequantise with"

    def pack(self, encoded: Encoded) -> Packed:
        return encoded

    def apply(self, x: Tensor, packed: Encoded) -> Tensor:
        if packed.order is not None:
            x = x.index_select(-1, packed.order)
        size, step = packed.data.shape[0], max(1, _PANEL_NUMBERS // x.shape[-1])
        panels = [slice(first, min(first + step, size)) for first in range(0, size, step)]
        outs = [F.linear(x, dequantise(packed, rows).to(x.dtype), _bias(packed, rows)) for rows in panels]
        return outs[0] if len(outs) == 1 else torch.cat(outs, dim=-1)

    def rows(self, packed: Encoded, ids: Tensor) -> Tensor:
        numbers = dequantise(packed, ids).to(torch_dtype(packed.dtype))
        if packed.order is None:
            return numbers
        return torch.empty_like(numbers).index_copy_(-1, packed.order, numbers)


def dequantise(encoded: Encoded, rows: slice | Tensor) -> Tensor:
    """Rows of an encoded weight as float32 `[rows, in]`, in the order of its columns."""
    data = encoded.data[rows]
    numbers = (unpack_nibbles(data) if encoded.encoding.bits == 4 else data).float()
    if encoded.zero is not None:
        numbers -= _each(encoded.zero, encoded, rows, numbers.shape[1])
    elif encoded.encoding.bits == 4:
        numbers -= 8
    assert encoded.scale is not None, "rejected without one"
    return numbers.mul_(_each(encoded.scale, encoded, rows, numbers.shape[1]))


def _each(values: Tensor, encoded: Encoded, rows: slice | Tensor, in_size: int) -> Tensor:
    """Scales or zero points `[blocks, groups]` for rows: float32 `[rows, in]`, or `[rows, 1]` for a whole row."""
    group, group_out = encoded.encoding.group, encoded.encoding.group_out
    if group_out > 1:
        ids = torch.arange(rows.start, rows.stop, device=values.device) if isinstance(rows, slice) else rows
        rows = ids // group_out
    wide = values[rows].float()
    return wide if group is None else wide.repeat_interleave(group, dim=1)[:, :in_size]


def _bias(encoded: Encoded, rows: slice) -> Tensor | None:
    return None if encoded.bias is None else encoded.bias[rows]
