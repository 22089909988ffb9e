"""Every LinearOp of the platform, and the plain one, against float64."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.linear import Encoded, Encoding, LinearOp, LinearSpec, TorchLinear, torch_dtype
from jackfield_platforms.testing.conformance.mismatch import compare, expect, near
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.conformance.tolerances import tolerance

_CHECKPOINT_BYTES = 1 << 20  # of an imagined model, so that ways that trade memory for speed take part
_SIZES = ((64, (64,)), (48, (32, 16, 16)), (130, (257,)))  # in, outs
_ROWS = (1, 2, 5, 33, 1100)


class LinearCase(msgspec.Struct, frozen=True, eq=False):
    """An op and a layer that it accepts."""

    op: LinearOp
    layer: LinearSpec
    subject: Subject

    def weight(self, seed: int) -> tuple[Tensor, Tensor | None]:
        """A weight `[out, in]` and a bias, on the host."""
        generator, dtype = torch.Generator().manual_seed(seed), torch_dtype(self.layer.dtype)
        weight = torch.randn(self.layer.out_size, self.layer.in_size, generator=generator) * self.layer.in_size**-0.5
        bias = torch.randn(self.layer.out_size, generator=generator).to(dtype)
        return weight.to(dtype), bias if self.layer.bias else None

    def encoded(self, weight: Tensor, bias: Tensor | None) -> Encoded:
        """The weight as a checkpoint's loader hands it over: on the device, owned by nobody else."""
        device = self.subject.platform.device()
        kept = None if bias is None else bias.to(device, copy=True)
        return Encoded(_encoding(self.layer.dtype), weight.to(device, copy=True), kept)

    def inputs(self, rows: int, seed: int) -> Tensor:
        """`[rows, in]` on the host."""
        generator = torch.Generator().manual_seed(seed + rows)
        return torch.randn(rows, self.layer.in_size, generator=generator).to(torch_dtype(self.layer.dtype))


def _encoding(dtype: str) -> Encoding:
    return Encoding("float", 8 * torch_dtype(dtype).itemsize)


def _accepted(subject: Subject, layers: Iterator[tuple[str, LinearSpec]]) -> Iterator[tuple[str, LinearCase]]:
    ops = (*subject.platform.linear_ops(_CHECKPOINT_BYTES), TorchLinear())
    for name, layer in layers:
        for op in ops:
            if op.rejects(_encoding(layer.dtype), layer) is None:
                yield f"{op.name}-{name}", LinearCase(op, layer, subject)


def linear(subject: Subject) -> Iterator[tuple[str, LinearCase]]:
    """Layers of several sizes, with a bias and without."""
    return _accepted(
        subject,
        (
            (f"{dtype}-{in_size}x{sum(outs)}{'-bias' if bias else ''}", LinearSpec("layer", in_size, outs, dtype, bias))
            for dtype in subject.platform.capabilities().dtypes
            for in_size, outs in _SIZES
            for bias in (False, True)
        ),
    )


def gathered(subject: Subject) -> Iterator[tuple[str, LinearCase]]:
    """A tied embedding: multiplied by, and read row by row."""
    return _accepted(
        subject,
        (
            (dtype, LinearSpec("embedding", 48, (101,), dtype, gathers=True))
            for dtype in subject.platform.capabilities().dtypes
        ),
    )


@torch.inference_mode()
def check_linear(linear: LinearCase, seed: int) -> None:
    """x W^T + b for one row and many, x contiguous and a part of wider rows."""
    weight, bias = linear.weight(seed)
    packed = linear.op.pack(linear.encoded(weight, bias))
    for rows in _ROWS:
        x = linear.inputs(rows, seed)
        for what, given in (("contiguous", x), ("strided", _strided(x))):
            wanted = _product(x, weight, bias)
            got = linear.op.apply(given.to(linear.subject.platform.device()), packed)
            expect(got.dtype == x.dtype, f"wanted {x.dtype}; found {got.dtype}")
            near(got, wanted, tolerance(linear.layer.dtype), f"{rows} {what} rows")


def _strided(x: Tensor) -> Tensor:
    wide = x.new_full((x.shape[0], x.shape[1] + 8), float("nan"))
    wide[:, 8:] = x
    return wide[:, 8:]


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    wanted = x.double() @ weight.double().T
    return wanted if bias is None else wanted + bias.double()


@torch.inference_mode()
def check_rows_of_a_weight(gathered: LinearCase, seed: int) -> None:
    """An embedding out of the packed weight is the weight's rows, in any order and repeated."""
    weight, _ = gathered.weight(seed)
    packed = gathered.op.pack(gathered.encoded(weight, None))
    ids = torch.tensor([100, 0, 7, 7, 42])
    got = gathered.op.rows(packed, ids.to(gathered.subject.platform.device()))
    compare(got, weight[ids].double(), 0.0, f"rows {ids.tolist()}")


@torch.inference_mode()
def check_packed_weights_stand_alone(linear: LinearCase, seed: int) -> None:
    """Two packed layers do not disturb each other, and the op keeps nothing of what it packed."""
    first, second = linear.weight(seed), linear.weight(seed + 1)
    encoded = linear.encoded(*first)
    original = weakref.ref(encoded.data)
    packed = linear.op.pack(encoded)
    other = linear.op.pack(linear.encoded(*second))
    x = linear.inputs(3, seed)
    given = x.to(linear.subject.platform.device())
    for weight, form in ((first, packed), (second, other), (first, packed)):
        near(linear.op.apply(given, form), _product(x, *weight), tolerance(linear.layer.dtype), "two packed layers")
    del encoded, form
    del packed
    if original() is not None:
        gc.collect()  # it may be part of a cycle
    expect(original() is None, f"{linear.op.name} holds a weight that nobody uses any more")
