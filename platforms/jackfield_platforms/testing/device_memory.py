"""The memory of an emulated device: host bytes that are counted, limited, poisoned, and given back when freed."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_POISON = 0xFF  # as a byte; floats of nothing but these are NaN, integers -1


class DeviceMemory:
    """Counts what is allocated and not yet freed; torch.OutOfMemoryError past `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.allocated = 0
        self.peak = 0

    def empty(self, size: Sequence[int], stride: Sequence[int] | None, dtype: torch.dtype) -> Tensor:
        """A poisoned host tensor of the given sizes (dense unless strided)."""
        num_bytes = _extent(size, stride) * dtype.itemsize
        if not num_bytes:
            return torch.empty(tuple(size), dtype=dtype)
        if self.allocated + num_bytes > self.limit:
            raise torch.OutOfMemoryError(
                f"wanted {num_bytes:,} bytes; {self.allocated:,} of the emulated device's {self.limit:,} are taken"
            )
        block = np.full(num_bytes, _POISON, np.uint8)
        self.allocated += num_bytes
        self.peak = max(self.peak, self.allocated)
        weakref.finalize(block, self._freed, num_bytes)
        flat = torch.from_numpy(block).view(dtype)
        return flat.view(tuple(size)) if stride is None else flat.as_strided(tuple(size), tuple(stride))

    def hold(self, computed: Tensor) -> Tensor:
        """The same numbers and strides in counted memory."""
        dense = computed.is_contiguous()
        held = self.empty(computed.shape, None if dense else computed.stride(), computed.dtype)
        return held.copy_(computed)

    def _freed(self, num_bytes: int) -> None:
        self.allocated -= num_bytes


def _extent(size: Sequence[int], stride: Sequence[int] | None) -> int:
    """Elements from the first to the last."""
    if 0 in size:
        return 0
    if stride is None:
        return int(np.prod(size, dtype=np.int64))
    return 1 + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
