"""Two 4-bit numbers a byte, side by side along the last dimension: the even one in the low half."""

from __future__ import annotations

import torch
from torch import Tensor


def pack_nibbles(numbers: Tensor) -> Tensor:
    """Numbers of 0 to 15, `[..., n]` with n even, to uint8 `[..., n / 2]`."""
    numbers = numbers.to(torch.uint8)
    return numbers[..., 0::2] | (numbers[..., 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """uint8 `[..., n / 2]` to uint8 `[..., n]`."""
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
