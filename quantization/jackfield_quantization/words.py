"""Small ints in 32-bit words, as several formats store them: the first number of a word in its lowest bits."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_platforms.linear import LinearSpec
from jackfield_platforms.nibbles import pack_nibbles, unpack_nibbles

_ROWS = 1024  # reordered at a time


def word_bytes(words: Tensor) -> Tensor:
    """int32 `[.., n]` to uint8 `[.., 4 * n]`: words are little-endian, their bytes in the order of the numbers."""
    return words.clone(memory_format=torch.contiguous_format).view(torch.uint8)


def numbers_of(words: Tensor, bits: int) -> Tensor:
    """int32 `[.., n]` to uint8 `[.., n * 32 / bits]`; bits are 4 or 8."""
    return unpack_nibbles(word_bytes(words)) if bits == 4 else word_bytes(words)


def without_middle_zero(data: Tensor, zero: Tensor | None, bits: int) -> tuple[Tensor, Tensor | None]:
    """Unsigned ints and their zero points in canonical form: none where all lie in the middle, as they do where `zero`
    is None. Changes `data`.
    """
    if zero is not None and not (zero == 2 ** (bits - 1)).all():
        return data, zero
    return (data if bits == 4 else data.bitwise_xor_(128).view(torch.int8)), None


def input_order(groups: Tensor | None, layer: LinearSpec, size: int, field: str) -> Tensor | None:
    """The inputs of each group of `size` side by side, by the group of each input; None where they are so already.

    ValueError names the layer, and the field that holds the groups.
    """
    if groups is None:
        return None
    wanted = torch.arange(layer.in_size, device=groups.device, dtype=groups.dtype) // size
    if torch.equal(groups, wanted):
        return None
    order = groups.argsort(stable=True)
    if not torch.equal(groups[order], wanted):
        raise ValueError(f"{layer.name}: {field} must give each of {layer.in_size // size} groups {size} inputs")
    return order


def reorder(data: Tensor, order: Tensor, bits: int) -> None:
    """Bring the columns of `data`, uint8 `[out, in * bits / 8]`, into an order, in place."""
    for rows in data.split(_ROWS):
        rows.copy_(pack_nibbles(unpack_nibbles(rows)[:, order]) if bits == 4 else rows[:, order])
