"""Multiplying by plain float weights on a CPU, best first.

Milliseconds on two busy AVX2 cores (no bfloat16 arithmetic), weight `[6144, 1024]`, one run:

    rows                          4      8     16     64    256
    bfloat16, PanelLinear       6.2    7.1    6.0   15.5   57.5
    float32, F.linear           5.8   12.9   12.6   23.8   59.3
    float32, OneDnnLinear       2.2    3.0    4.7   14.6   42.0

torch's own bfloat16 product takes 0.7 at one row, 5.2 at 8 and 41 at 64 on the same cores when idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from jackfield_cpu.processor import Processor
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, torch_dtype

_GEMV_ROWS = 3  # up to here torch's 16-bit gemv, which reads the weight once a row, beats widening it once
_MANY_ROWS = 1024  # from here on the product is long beside the widening, and larger panels are faster
_LARGE_PANEL_NUMBERS = 2**23  # 32 MiB of float32
_PANEL_NUMBERS = 2**20  # 4 MiB of float32: stays in the cache, and each product is long enough for all cores


class Prepacked(msgspec.Struct):
    """A weight in oneDNN's own layout."""

    weight: Tensor
    bias: Tensor | None


class OneDnnLinear:
    """The weight reordered once for oneDNN's kernels: in float32 about twice as fast at 2 to 16 rows on AVX2."""

    name = "onednn"

    def __init__(self, refusals: Mapping[str, str]) -> None:
        self.refusals = refusals  # by dtype; see `onednn_refusals`

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if not encoding.is_plain:
            return f"multiplies plain floats only, not {encoding.describe()}"
        if layer.gathers:
            return "a reordered weight cannot be read row by row (tied embedding)"
        return self.refusals.get(layer.dtype)

    def pack(self, encoded: Encoded) -> Prepacked:
        return Prepacked(torch.ops.mkldnn._reorder_linear_weight(encoded.data), encoded.bias)

    def apply(self, x: Tensor, packed: Prepacked) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed.weight, packed.bias, "none", [], "")
        return out

    def rows(self, packed: Prepacked, ids: Tensor) -> NoReturn:
        raise AssertionError("rejected for layers that are read by rows")


class PanelLinear:
    """16-bit weights on a processor without 16-bit arithmetic.

    The weight stays as it is. For more than a few rows it is widened to float32 a panel of output rows at a time, and
    the panel is multiplied while it is in the cache. Sums are float32 and rounded once.
    """

    name = "panels"

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if not encoding.is_plain or encoding.bits != 16:
            return f"widens 16-bit float weights only, not {encoding.describe()}"
        if layer.dtype == "bfloat16" and self.processor.multiplies_bfloat16:
            return "this processor multiplies bfloat16 itself"
        return None

    def pack(self, encoded: Encoded) -> Encoded:
        return encoded

    def apply(self, x: Tensor, packed: Encoded) -> Tensor:
        if x.shape[0] <= _GEMV_ROWS:
            return F.linear(x, packed.data, packed.bias)
        return (_by_panels if x.shape[0] < _MANY_ROWS else _by_large_panels)(x, packed.data, packed.bias)

    def rows(self, packed: Encoded, ids: Tensor) -> Tensor:
        return F.embedding(ids, packed.data)


def _by_panels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[rows, in]` times `[out, in]`, transposed: with the long side first, sgemm is up to twice as fast."""
    (rows, in_size), out_size = x.shape, weight.shape[0]
    height = max(1, min(out_size, _PANEL_NUMBERS // in_size))
    wide = x.float().t()
    panel, product = torch.empty(height, in_size), torch.empty(height, rows)
    out = torch.empty(rows, out_size, dtype=x.dtype)
    for first in range(0, out_size, height):
        last = min(first + height, out_size)
        part = product[: last - first]
        torch.mm(panel[: last - first].copy_(weight[first:last]), wide, out=part)
        if bias is not None:
            part += bias[first:last, None]
        out[:, first:last].copy_(part.t())
    return out


def _by_large_panels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same for many rows; with the rows first, sgemm is up to twice as fast there."""
    (rows, in_size), out_size = x.shape, weight.shape[0]
    height = max(1, _LARGE_PANEL_NUMBERS // in_size)
    wide, out = x.float(), torch.empty(rows, out_size, dtype=x.dtype)
    for first in range(0, out_size, height):
        part = slice(first, first + height)
        wide_bias = None if bias is None else bias[part].float()
        out[:, part].copy_(F.linear(wide, weight[part].float(), wide_bias))
    return out


def onednn_refusals(processor: Processor) -> dict[str, str]:
    """Why oneDNN cannot serve a dtype here, found by trying each once."""
    refusals = {"float16": "packs bfloat16 and float32 only"}
    if not processor.multiplies_bfloat16:
        refusals["bfloat16"] = f"{processor.instruction_set} does not multiply bfloat16"
    for name in ("bfloat16", "float32"):
        if name not in refusals and (reason := _trial(name)) is not None:
            refusals[name] = reason
    return refusals


def _trial(dtype: str) -> str | None:
    op, weight = OneDnnLinear({}), torch.eye(32, dtype=torch_dtype(dtype))
    try:
        packed = op.pack(Encoded(Encoding("float", weight.itemsize * 8), weight))
        right = torch.equal(op.apply(weight, packed), weight)
    except (RuntimeError, AttributeError) as error:  # unsupported here; a torch without oneDNN has no such op
        return str(error).splitlines()[0]
    return None if right else "gives wrong products in a trial"
