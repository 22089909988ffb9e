"""How far a result may be from float64, by the coarsest dtype on its way.

Inputs are exact in their dtype, so that what remains is the device's own rounding. In 16 bits each of a product's
operands (queries times scale, softmax weights) and its result may be rounded once, half an eps each, and the error of a
score is multiplied by scores of a few units before the softmax averages it: 3 eps hold all of it, and an off-by-one in
a mask of 30 keys moves an answer by more. In float32 sums of some hundred products in any order stay below 1e-5, 80
eps; TF32 products (eps 1e-3) do not, and must not be used for float32.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from jackfield_platforms.linear import torch_dtype

_FLOAT32 = 1e-5
_SIXTEEN_BITS = 3  # eps


def tolerance(*dtypes: str) -> float:
    """The error that a product or an attention may have, relative to the largest element."""
    eps = epsilon(dtypes)
    return _FLOAT32 if eps < _FLOAT32 else _SIXTEEN_BITS * eps


def epsilon(dtypes: Iterable[str]) -> float:
    """The coarsest dtype's distance from 1 to the next number. Of 8 bits numbers are only read: they are exact."""
    infos = (torch.finfo(torch_dtype(dtype)) for dtype in dtypes)
    return max(info.eps for info in infos if info.bits > 8)
