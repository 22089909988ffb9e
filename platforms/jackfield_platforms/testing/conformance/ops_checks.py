"""Every implementation of every op that the platform offers, and what would be chosen, against float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec
import torch
from torch import Tensor

from jackfield_platforms import reference
from jackfield_platforms.communicator import Communicator, SingleRank
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import Impl, OpSpec
from jackfield_platforms.testing.conformance import oracle
from jackfield_platforms.testing.conformance.attention_checks import rope_table
from jackfield_platforms.testing.conformance.mismatch import compare, expect
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.conformance.tolerances import tolerance

SIZES = ((1, 64), (3, 30), (17, 128), (130, 96))  # rows, width (even: SwiGLU halves it)
_SCALES = (1.0, 1e-3, 200.0)  # squares of the last overflow float16
_ADAPTED = ((1, 64, (24,), 1, 4), (17, 48, (32, 16, 16), 3, 8), (40, 30, (9, 9), 2, 5))
_EPS = 1e-5
# Elementwise, in eps of the dtype. In 16 bits each op rounds at most three times (half an eps each), and once more
# where its own intermediate results have the dtype. In float32 they always have: a sum of squares, its root and the
# reciprocal add an eps and a half
_EPS_OF_16_BITS, _EPS_OF_FLOAT32 = 2, 4


class OpCase(msgspec.Struct, frozen=True, eq=False):
    """One implementation, for one dtype."""

    impl: Impl
    dtype: str
    subject: Subject

    def draw(self, shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
        """Normal numbers times `scale`, in the dtype, on the host."""
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(shape, generator=generator) * scale).to(torch_dtype(self.dtype))

    def put(self, x: Tensor) -> Tensor:
        """A strided view on the device: a part of wider rows, every second one, as a fused projection is cut."""
        wide = torch.full((2 * x.shape[0], *x.shape[1:-1], x.shape[-1] + 6), float("nan"), dtype=x.dtype)
        view = wide.to(self.subject.platform.device())[::2, ..., 4 : x.shape[-1] + 4]
        return view.copy_(x)

    def compare(self, got: Tensor, wanted: Tensor, allowed: float | Tensor, what: str) -> None:
        """`compare`, and the dtype."""
        expect(got.dtype == torch_dtype(self.dtype), f"{what}: wanted {self.dtype}; found {got.dtype}")
        compare(got, wanted, allowed, what)

    def allowed(self, wanted: Tensor, largest: float = 1.0) -> Tensor:
        """The error that each element may have; below the smallest normal number, 16-bit and float32 go to steps."""
        info = torch.finfo(torch_dtype(self.dtype))
        eps = _EPS_OF_FLOAT32 if info.bits == 32 else _EPS_OF_16_BITS
        return eps * info.eps * wanted.abs() + 4 * info.smallest_normal * max(1.0, largest)


def cases_of(subject: Subject, op: str) -> Iterator[tuple[str, OpCase]]:
    offered = [impl for impl in getattr(subject.platform.ops(), op) if isinstance(impl, Impl)]  # strangers fail by name
    for dtype in subject.platform.capabilities().dtypes:
        for impl in (*offered, Impl("torch", getattr(reference, op))):
            if impl.rejects(OpSpec(dtype)) is None:
                yield f"{impl.name}-{dtype}", OpCase(impl, dtype, subject)


def rms_norm(subject: Subject) -> Iterator[tuple[str, OpCase]]:
    """Implementations of rms_norm."""
    return cases_of(subject, "rms_norm")


def reduce_add_rms_norm(subject: Subject) -> Iterator[tuple[str, OpCase]]:
    """Implementations of reduce_add_rms_norm."""
    return cases_of(subject, "reduce_add_rms_norm")


def silu_mul(subject: Subject) -> Iterator[tuple[str, OpCase]]:
    """Implementations of silu_mul."""
    return cases_of(subject, "silu_mul")


def rotary(subject: Subject) -> Iterator[tuple[str, OpCase]]:
    """Implementations of rotary."""
    return cases_of(subject, "rotary")


def lora_add(subject: Subject) -> Iterator[tuple[str, OpCase]]:
    """Implementations of lora_add."""
    return cases_of(subject, "lora_add")


@torch.inference_mode()
def check_rms_norm(rms_norm: OpCase, seed: int) -> None:
    """Large and tiny numbers, and a row of zeros, which only eps keeps finite."""
    case = rms_norm
    for (rows, width), scale in _sizes_and_scales():
        x, weight = case.draw((rows, width), seed, scale), case.draw((width,), seed + 1)
        x[-1] = 0 if rows > 1 else x[-1]
        wanted = oracle.rms_norm(x.double(), weight.double(), _EPS)
        given = case.put(x)
        got = case.impl.fn(given, weight.to(_device(case)), _EPS)
        case.compare(got, wanted, case.allowed(wanted), f"rms_norm of [{rows}, {width}] * {scale:g}")
        expect(torch.equal(given.cpu(), x), "rms_norm changed its input x in place")


@torch.inference_mode()
def check_reduce_add_rms_norm(reduce_add_rms_norm: OpCase, seed: int) -> None:
    """Both results: the norm of the sum, and the sum, which goes on as the residual."""
    case = reduce_add_rms_norm
    comm = case.subject.platform.communicator()
    for (rows, width), scale in _sizes_and_scales():
        partial, residual = (case.draw((rows, width), seed + part, scale) for part in range(2))
        weight = case.draw((width,), seed + 2)
        total = partial.double() + residual.double()
        normed, new = _reduced(case, (partial, residual, weight), comm)
        what = f"reduce_add_rms_norm of [{rows}, {width}] * {scale:g}"
        case.compare(new, total, case.allowed(total), f"the residual of {what}")
        # the sum may be rounded to the dtype before it is normed
        wanted = oracle.rms_norm(total, weight.double(), _EPS)
        case.compare(normed, wanted, 1.5 * case.allowed(wanted), what)


def _reduced(case: OpCase, tensors: tuple[Tensor, Tensor, Tensor], comm: Communicator) -> tuple[Tensor, Tensor]:
    partial, residual, weight = tensors
    return cast(
        "tuple[Tensor, Tensor]",
        case.impl.fn(case.put(partial), case.put(residual), weight.to(_device(case)), _EPS, comm),
    )


class _TwoAlike(SingleRank):
    """Two ranks, as this one sees them, whose partial sums are equal."""

    size = 2

    def all_reduce(self, x: Tensor) -> Tensor:
        return x * 2


@torch.inference_mode()
def check_partial_sums_are_reduced(reduce_add_rms_norm: OpCase, seed: int) -> None:
    """What another rank holds is part of the sum: `comm.all_reduce` is asked for it."""
    case, (rows, width) = reduce_add_rms_norm, (17, 128)
    partial, residual, weight = (case.draw(shape, seed) for shape in ((rows, width), (rows, width), (width,)))
    total = 2 * partial.double() + residual.double()
    _, new = _reduced(case, (partial, residual, weight), _TwoAlike())
    case.compare(new, total, case.allowed(total), "the residual of reduce_add_rms_norm over two ranks")


@torch.inference_mode()
def check_silu_mul(silu_mul: OpCase, seed: int) -> None:
    """Gates from far below zero, where silu vanishes, to far above, where it is the identity."""
    for rows, width in SIZES:
        x = silu_mul.draw((rows, width), seed, 6.0)
        wanted = oracle.silu_mul(x.double())
        given = silu_mul.put(x)
        got = silu_mul.impl.fn(given)
        silu_mul.compare(got, wanted, silu_mul.allowed(wanted, float(x.abs().max())), f"silu_mul of [{rows}, {width}]")
        expect(torch.equal(given.cpu(), x), "silu_mul changed its input gate_up in place")


@torch.inference_mode()
def check_rotary(rotary: OpCase, seed: int) -> None:
    """Whole heads and parts of them, in halves and interleaved, at positions in any order; inputs stay as they are."""
    eps = torch.finfo(torch_dtype(rotary.dtype)).eps
    generator = torch.Generator().manual_seed(seed)
    for tokens, dim, rotary_dim, interleaved in ((1, 64, 64, False), (7, 64, 32, False), (33, 80, 80, True)):
        table = rope_table(rotary_dim, 300)
        positions = torch.randint(300, (tokens,), generator=generator)
        inputs = [rotary.draw((tokens, heads, dim), seed + heads) for heads in (6, 2)]
        given = [rotary.put(x) for x in inputs]
        where = _device(rotary)
        turned = rotary.impl.fn(*given, table.to(where), positions.to(where), interleaved)
        for name, x, kept, got in zip("qk", inputs, given, turned, strict=True):
            what = f"{name} {tuple(x.shape)}, {rotary_dim} rotated, {'interleaved' if interleaved else 'in halves'}"
            # sines are rounded to the dtype, products and their sum too: 1.5 eps of numbers up to sqrt(2) * the largest
            wanted = oracle.rotate(x.double(), table, positions, interleaved)
            rotary.compare(got, wanted, 2.5 * eps * float(x.abs().max()), what)
            expect(torch.equal(kept.cpu(), x), f"rotary changed its input {name} in place")


@torch.inference_mode()
def check_lora_add(lora_add: OpCase, seed: int) -> None:
    """Tokens of every adapter and of none, in any order, over layers of one part and of several."""
    generator = torch.Generator().manual_seed(seed)
    for tokens, width, sizes, slots, rank in _ADAPTED:
        x, out = lora_add.draw((tokens, width), seed), lora_add.draw((tokens, sum(sizes)), seed + 1)
        a = lora_add.draw((slots, len(sizes), rank, width), seed + 2, width**-0.5)
        b = lora_add.draw((slots, rank, sum(sizes)), seed + 3, rank**-0.5)
        adapters = torch.randint(-1, slots, (tokens,), generator=generator)
        where = _device(lora_add)
        weights = (a.to(where), b.to(where), adapters.to(where))
        got = lora_add.impl.fn(lora_add.put(out), lora_add.put(x), *weights, sizes)
        wanted = oracle.lora_add(out.double(), x.double(), a.double(), b.double(), adapters, sizes)
        # the narrow product may be rounded to the dtype before it is multiplied again
        allowed = 2 * tolerance(lora_add.dtype) * float(wanted.abs().max())
        lora_add.compare(got, wanted, allowed, f"lora_add of [{tokens}, {width}] in {slots} slots of rank {rank}")


def _sizes_and_scales() -> Iterator[tuple[tuple[int, int], float]]:
    yield from ((size, scale) for size in SIZES for scale in _SCALES)


def _device(case: OpCase) -> Any:
    return case.subject.platform.device()
