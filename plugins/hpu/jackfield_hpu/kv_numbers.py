"""Numbers of the cache: rounded when they are written, widened when they are read, with scales of kv heads if any."""

from __future__ import annotations

import torch
from torch import Tensor

FLOAT8 = "float8_e4m3fn"


def encode(x: Tensor, dtype: torch.dtype, scale: Tensor | None, most: float) -> Tensor:
    """Keys or values `[tokens, kv_heads, dim]` as they are kept; `most`, of 8-bit floats, stands for all beyond it."""
    if scale is not None:
        x = (x.float() / scale[:, None]).to(x.dtype)
    if dtype.itemsize == 1:
        x = x.clamp(-most, most)
    return x.to(dtype)


def scaled(x: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What was kept `[..., kv_heads, dim]`, in `dtype`."""
    return x.to(dtype) if scale is None else (x.float() * scale[:, None]).to(dtype)
