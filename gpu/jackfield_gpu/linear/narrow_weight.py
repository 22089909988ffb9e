"""A weight of 8 or 4 bits as the kernels read it."""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_gpu.linear.tiles import LEAST_COLUMNS, columns_within
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec
from jackfield_platforms.nibbles import unpack_nibbles

_ROWS = 1024  # reordered at a time
_COLUMNS = {4: 64, 8: 128}  # the most that a tile may hold, by bits


class NarrowWeight(msgspec.Struct, frozen=True, eq=False):
    """`encoded`, its data padded to whole tiles of `columns` and, in 4 bits, its nibbles in the order of a tile."""

    encoded: Encoded
    in_size: int
    padded_size: int
    columns: int  # of a tile in 4 bits, the most of one in 8: it divides a group, and the padded size
    zero: Tensor  # what the kernel is given where there is none: the scales
    bias: Tensor  # the same

    @property
    def group(self) -> int:
        """Columns that share a scale, 0: a whole row."""
        return self.encoded.encoding.group or 0


def rejects_encoding(encoding: Encoding, layer: LinearSpec) -> str | None:
    """Why a weight cannot be brought into this form, or None."""
    if encoding.is_plain:
        return "multiplies weights of 8 and 4 bits, and plain floats are wider"
    if encoding.scale is None or (encoding.kind, encoding.bits) not in {("int", 4), ("int", 8), ("float", 8)}:
        return f"multiplies scaled 4- and 8-bit ints and 8-bit floats, not {encoding.describe()}"
    if encoding.bits == 4 and layer.gathers:
        return "its nibbles lie in another order, and cannot be read row by row (tied embedding)"
    if _columns(encoding) < _least(encoding):
        return f"a group of {encoding.group} holds no tile of {_least(encoding)} columns"
    return None


def pack(encoded: Encoded) -> NarrowWeight:
    """The weight in the kernels' form; consumes its input."""
    encoding, scale = encoded.encoding, encoded.scale
    assert scale is not None, "rejected without one"
    in_size = encoded.data.shape[1] * (2 if encoding.bits == 4 else 1)
    columns = _columns(encoding)
    padded_size = -(-in_size // columns) * columns
    data = _of_nibbles(encoded.data, columns) if encoding.bits == 4 else _of_bytes(encoded.data, padded_size)
    held = msgspec.structs.replace(
        encoded,
        data=data,
        scale=scale.contiguous(),
        zero=None if encoded.zero is None else encoded.zero.contiguous(),
    )
    assert held.scale is not None
    return NarrowWeight(
        encoded=held,
        in_size=in_size,
        padded_size=padded_size,
        columns=columns,
        zero=held.scale if held.zero is None else held.zero,
        bias=held.scale if held.bias is None else held.bias,
    )


def _columns(encoding: Encoding) -> int:
    return columns_within(encoding.group, _COLUMNS[encoding.bits])


def _least(encoding: Encoding) -> int:
    """Each half of a 4-bit tile is multiplied by itself."""
    return 2 * LEAST_COLUMNS if encoding.bits == 4 else LEAST_COLUMNS


def _of_bytes(data: Tensor, padded_size: int) -> Tensor:
    """`[out, padded]` of int8 or uint8; floats as their bits."""
    data = data.view(torch.uint8) if data.is_floating_point() else data
    return F.pad(data, (0, padded_size - data.shape[1])).contiguous()


def _of_nibbles(data: Tensor, columns: int) -> Tensor:
    """uint8 `[out, padded / 2]`: byte j of a tile holds its columns j, low, and j + columns / 2, high."""
    size = -(-2 * data.shape[1] // columns) * columns
    made = torch.empty(data.shape[0], size // 2, dtype=torch.uint8, device=data.device)
    for rows, to in zip(data.split(_ROWS), made.split(_ROWS), strict=True):
        numbers = F.pad(unpack_nibbles(rows), (0, size - 2 * rows.shape[1]))
        low, high = numbers.view(len(rows), -1, 2, columns // 2).unbind(2)
        to.copy_((low | (high << 4)).flatten(1))
    return made
