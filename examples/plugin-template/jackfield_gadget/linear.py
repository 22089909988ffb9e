"""Multiplying by a weight that was laid out for it once, when it was loaded."""

import torch
from torch import Tensor

from jackfield_platforms.linear import Encoded, Encoding, LinearSpec


class TransposedLinear:
    """Keeps `[in, out]`, which is how a gadget likes to read it."""

    name = "gadget-transposed"

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if not encoding.is_plain:
            return f"gadgets multiply plain floats, not {encoding.describe()}"
        return "the embedding reads its rows from it too" if layer.gathers else None

    def pack(self, encoded: Encoded) -> tuple[Tensor, Tensor | None]:
        return encoded.data.t().contiguous(), encoded.bias

    def apply(self, x: Tensor, packed: tuple[Tensor, Tensor | None]) -> Tensor:
        weight, bias = packed
        return torch.matmul(x, weight) if bias is None else torch.addmm(bias, x, weight)

    def rows(self, packed: tuple[Tensor, Tensor | None], ids: Tensor) -> Tensor:
        return packed[0].t().index_select(0, ids)
