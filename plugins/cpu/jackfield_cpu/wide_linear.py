"""16-bit weights held as float32 too, where memory is plentiful and the processor has no 16-bit arithmetic.

Seconds a step of a 0.6B Qwen3 shape in bfloat16 on two AVX2 cores, the best of a few steps:

    sequences            1      2      4      8
    PanelLinear       0.11   0.16   0.28      -
    WideLinear        0.13   0.17   0.18   0.29

With 8 streams served over HTTP, the median step went from 0.60 to 0.27.
"""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_cpu.processor import Processor
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec

_SHARE = 0.4  # of free memory that weights may take in this form
_COPIES = 3  # bytes for each byte of the checkpoint: itself, and two for float32
_GEMV_ROWS = 1  # torch's 16-bit gemv reads half the bytes of float32, once a row


def shortage(weight_bytes: int, free: int) -> str | None:
    """Why a checkpoint of `weight_bytes` should not be widened with `free` bytes of memory, or None."""
    if not weight_bytes:
        return "the size of the checkpoint is not known"
    if weight_bytes * _COPIES > free * _SHARE:
        wanted, limit = weight_bytes * _COPIES / 2**30, free * _SHARE / 2**30
        return f"wide weights would take {wanted:.1f} GiB, more than {_SHARE:.0%} of what is free ({limit:.1f} GiB)"
    return None


class Widened(msgspec.Struct):
    """A weight twice: in oneDNN's own float32 layout, and as it was."""

    wide: Tensor
    wide_bias: Tensor | None
    narrow: Encoded


class WideLinear:
    """Three times the memory of `PanelLinear`, and up to twice its speed at a few rows."""

    name = "wide"

    def __init__(self, processor: Processor, objection: str | None) -> None:
        self.processor, self.objection = processor, objection

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if not encoding.is_plain or encoding.bits != 16:
            return f"widens 16-bit float weights only, not {encoding.describe()}"
        if layer.dtype == "bfloat16" and self.processor.multiplies_bfloat16:
            return "this processor multiplies bfloat16 itself"
        return self.objection

    def pack(self, encoded: Encoded) -> Widened:
        wide = torch.ops.mkldnn._reorder_linear_weight(encoded.data.float())
        return Widened(wide, None if encoded.bias is None else encoded.bias.float(), encoded)

    def apply(self, x: Tensor, packed: Widened) -> Tensor:
        if x.shape[0] <= _GEMV_ROWS:
            return F.linear(x, packed.narrow.data, packed.narrow.bias)
        wide: Tensor = torch.ops.mkldnn._linear_pointwise(x.float(), packed.wide, packed.wide_bias, "none", [], "")
        return wide.to(x.dtype)

    def rows(self, packed: Widened, ids: Tensor) -> Tensor:
        return F.embedding(ids, packed.narrow.data)
