"""Weights in every encoding that formats come in, through each op that accepts them, against sums in float64.

A format's own class is not needed: data, scales, zero points and orders are drawn, and what they stand for is written
out number by number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.linear import Encoded, Encoding, LinearOp, LinearSpec, torch_dtype
from jackfield_platforms.nibbles import pack_nibbles
from jackfield_platforms.testing.conformance.mismatch import compare, expect, near
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.conformance.tolerances import tolerance

_CHECKPOINT_BYTES = 1 << 20  # of an imagined model, so that ways that trade memory for speed take part
ENCODINGS = {
    "int8_rows": Encoding("int", 8, scale="float32"),
    "int8_groups": Encoding("int", 8, 128, scale="float32"),
    "uint8_zero": Encoding("int", 8, 32, scale="float16", zero=True, ordered=True),
    "int4_groups": Encoding("int", 4, 32, scale="float16"),
    "int4_zero_ordered": Encoding("int", 4, 64, scale="float16", zero=True, ordered=True),
    "fp8_rows": Encoding("float", 8, scale="float32"),
    "fp8_blocks": Encoding("float", 8, 48, group_out=32, scale="float32"),
}
_SIZES = (
    (128, (64,)),
    (200, (48, 24)),
    (1536, (700,)),
)  # in, outs; groups and blocks end early in the second, the third is large
_ROWS = (1, 5, 33)


class EncodedCase(msgspec.Struct, frozen=True, eq=False):
    """An op, a layer, and an encoding that the op accepts for it."""

    op: LinearOp
    layer: LinearSpec
    encoding: Encoding
    subject: Subject

    def draw(self, seed: int) -> tuple[Encoded, Tensor]:
        """A weight on the host, and what it stands for: float64 `[out, in]` in the order of the inputs."""
        make, out_size, in_size = torch.Generator().manual_seed(seed), self.layer.out_size, self.layer.in_size
        encoding = self.encoding
        blocks = math.ceil(out_size / encoding.group_out), math.ceil(in_size / (encoding.group or in_size))
        scale = (torch.rand(blocks, generator=make) + 0.5) / (2 ** (encoding.bits - 1) * in_size**0.5)
        scale = scale.to(torch_dtype(encoding.scale or "float32"))
        zero = torch.randint(0, 2**encoding.bits + 1, blocks, generator=make, dtype=torch.int16)
        order = torch.randperm(in_size, generator=make) if encoding.ordered else None
        numbers = torch.randint(0, 2**encoding.bits, (out_size, in_size), generator=make)
        data, exact = self._written(numbers)
        rows = torch.arange(out_size) // encoding.group_out
        columns = torch.arange(in_size) // (encoding.group or in_size)
        shift = zero.double()[rows][:, columns] if encoding.zero else 0.0
        stands = (exact - shift) * scale.double()[rows][:, columns]
        wanted = stands if order is None else torch.empty_like(stands).index_copy_(1, order, stands)
        bias = torch.randn(out_size, generator=make).to(torch_dtype(self.layer.dtype)) if self.layer.bias else None
        kept = zero if encoding.zero else None
        return Encoded(encoding, data, bias, scale, kept, order, dtype=self.layer.dtype), wanted

    def _written(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Integers 0 to 2 ** bits - 1 as the encoding's data, and the float64 that the data stands for unscaled."""
        if self.encoding.kind == "float":
            floats = (numbers - 128).float().to(torch.float8_e4m3fn)
            return floats, floats.double()
        if self.encoding.bits == 4:
            return pack_nibbles(numbers), numbers.double() - (0 if self.encoding.zero else 8)
        ints = numbers.to(torch.uint8) if self.encoding.zero else (numbers - 128).to(torch.int8)
        return ints, ints.double()

    def packed(self, encoded: Encoded) -> object:
        """The weight on the device, packed; the host's own copy stays."""
        device = self.subject.platform.device()
        parts = {name: getattr(encoded, name) for name in ("data", "bias", "scale", "zero", "order")}
        there = {name: None if part is None else part.to(device, copy=True) for name, part in parts.items()}
        return self.op.pack(msgspec.structs.replace(encoded, **there))


def _accepted(
    subject: Subject, sizes: tuple[tuple[int, tuple[int, ...]], ...], *, gathers: bool
) -> Iterator[tuple[str, EncodedCase]]:
    ops = (*subject.platform.linear_ops(_CHECKPOINT_BYTES), TorchDequantLinear())
    for dtype in subject.platform.capabilities().dtypes:
        for label, encoding in ENCODINGS.items():
            for in_size, outs in sizes:
                layer = LinearSpec("layer", in_size, outs, dtype, bias=not gathers and len(outs) > 1, gathers=gathers)
                for op in ops:
                    if op.rejects(encoding, layer) is None:
                        name = f"{op.name}-{dtype}-{label}-{in_size}x{sum(outs)}"
                        yield name, EncodedCase(op, layer, encoding, subject)


def encoded(subject: Subject) -> Iterator[tuple[str, EncodedCase]]:
    """Every encoding, in layers of several sizes; the second has a bias."""
    return _accepted(subject, _SIZES, gathers=False)


def encoded_table(subject: Subject) -> Iterator[tuple[str, EncodedCase]]:
    """An embedding in every encoding."""
    return _accepted(subject, _SIZES[1:2], gathers=True)


@torch.inference_mode()
def check_products_of_encoded_weights(encoded: EncodedCase, seed: int) -> None:
    """x W^T + b, where W is what the encoded numbers stand for."""
    weight, stands = encoded.draw(seed)
    packed, dtype = encoded.packed(weight), torch_dtype(encoded.layer.dtype)
    for rows in _ROWS:
        x = torch.randn(rows, encoded.layer.in_size, generator=torch.Generator().manual_seed(seed + rows)).to(dtype)
        wanted = x.double() @ stands.T + (0.0 if weight.bias is None else weight.bias.double())
        got = encoded.op.apply(x.to(encoded.subject.platform.device()), packed)
        expect(got.dtype == dtype, f"wanted {dtype}; found {got.dtype}")
        what = f"{rows} rows times {encoded.encoding.describe()}"
        near(got, wanted, tolerance(encoded.layer.dtype), what)


@torch.inference_mode()
def check_rows_of_encoded_weights(encoded_table: EncodedCase, seed: int) -> None:
    """An embedding out of an encoded weight, in the order of the inputs and in the layer's dtype."""
    weight, stands = encoded_table.draw(seed)
    ids = torch.tensor([71, 0, 31, 32, 32])
    got = encoded_table.op.rows(encoded_table.packed(weight), ids.to(encoded_table.subject.platform.device()))
    dtype = torch_dtype(encoded_table.layer.dtype)
    expect(got.dtype == dtype, f"wanted {dtype}; found {got.dtype}")
    wanted = stands[ids]
    compare(
        got,
        wanted,
        torch.finfo(dtype).eps * wanted.abs(),
        f"rows {ids.tolist()} of {encoded_table.encoding.describe()}",
    )
