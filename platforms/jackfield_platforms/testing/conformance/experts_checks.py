"""A platform's product of experts against plain definitions in float64."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.experts import ExpertsSpec, ExpertWeights, MakeExperts
from jackfield_platforms.fusion import FusedLinear, PackedLinear
from jackfield_platforms.linear import Encoded, Encoding, LinearOp, LinearSpec, TorchLinear, torch_dtype
from jackfield_platforms.testing.conformance import oracle
from jackfield_platforms.testing.conformance.mismatch import expect, near
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.conformance.tolerances import tolerance

_HIDDEN, _INNER, _COUNT = 64, 96, 6
_TOKENS = (1, 5, 70)
_TOPS = {"one": (1, False), "two": (2, True), "shares": (3, False), "all": (_COUNT, True)}  # experts, renormalize
_ROUNDINGS = 3  # times the tolerance of a product: two products, and the gate between them


class ExpertsCase(msgspec.Struct, frozen=True, eq=False):
    """Experts that the platform multiplies in one call."""

    subject: Subject
    spec: ExpertsSpec
    make: MakeExperts
    ops: tuple[LinearOp, LinearOp]  # of gate and up, and of down

    def put(self, tensor: Tensor) -> Tensor:
        """On the device, in the layer's dtype, owned by nobody else."""
        return tensor.to(self.subject.platform.device(), torch_dtype(self.spec.dtype), copy=True)

    def packed(self, weights: Tensor, linear: FusedLinear, op: LinearOp) -> tuple[PackedLinear, ...]:
        """`[experts, out, in]`, each packed."""
        every = (Encoded(linear.encoding, self.put(weight), dtype=self.spec.dtype) for weight in weights)
        return tuple(PackedLinear(op, op.pack(encoded)) for encoded in every)


def experts(subject: Subject) -> Iterator[tuple[str, ExpertsCase]]:
    """Every routing and dtype that the platform has a product for, with the linear ops that a launch would choose."""
    for dtype in subject.platform.capabilities().dtypes:
        for name, (top, renormalize) in _TOPS.items():
            spec, ops = _spec(subject, dtype, top, renormalize=renormalize)
            answer = subject.platform.experts(spec)
            if isinstance(answer, str):
                expect(answer.strip(), f"experts of {name} in {dtype} refuses without a reason")
            else:
                yield f"{name}-{dtype}", ExpertsCase(subject, spec, answer, ops)


@torch.inference_mode()
def check_experts(experts: ExpertsCase, seed: int) -> None:
    """Few tokens and many, sent everywhere and all to the same experts, of which others get none."""
    case, spec = experts, experts.spec
    generator, dtype = torch.Generator().manual_seed(seed), torch_dtype(spec.dtype)
    gate_up = (torch.randn(_COUNT, 2 * _INNER, _HIDDEN, generator=generator) * _HIDDEN**-0.5).to(dtype)
    down = (torch.randn(_COUNT, _HIDDEN, _INNER, generator=generator) * _INNER**-0.5).to(dtype)
    weights = ExpertWeights(case.packed(gate_up, spec.gate_up, case.ops[0]), case.packed(down, spec.down, case.ops[1]))
    product = case.make(weights)
    for tokens in _TOKENS:
        for crowded in (False, True):
            x = torch.randn(tokens, _HIDDEN, generator=generator).to(dtype)
            order = torch.rand(1 if crowded else tokens, _COUNT, generator=generator).argsort(-1)
            logits = (order.expand(tokens, -1) * 0.5).to(dtype)  # apart, so that rounding moves no token
            got = product(case.put(x), case.put(logits))
            wanted = _definition(spec, x.double(), logits.double(), gate_up.double(), down.double())
            what = f"the sum of {spec.top} experts of {tokens} tokens{', all to the same' if crowded else ''}"
            expect(got.dtype == dtype, f"{what}: wanted {dtype}; found {got.dtype}")
            near(got, wanted, _ROUNDINGS * tolerance(spec.dtype), what)


def _definition(spec: ExpertsSpec, x: Tensor, logits: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """Every expert of every token, and nothing of those that it is not sent to."""
    odds = logits.softmax(-1)
    share = odds * (logits >= logits.sort(-1).values[:, -spec.top, None])
    if spec.renormalize:
        share = share / share.sum(-1, keepdim=True)
    inner = oracle.silu_mul(torch.einsum("th,eih->eti", x, gate_up))
    return torch.einsum("te,eti,ehi->th", share, inner, down)


def _spec(
    subject: Subject, dtype: str, top: int, *, renormalize: bool
) -> tuple[ExpertsSpec, tuple[LinearOp, LinearOp]]:
    encoding = Encoding("float", 8 * torch_dtype(dtype).itemsize)
    gate_up = LinearSpec("experts.0.gate_up", _HIDDEN, (_INNER, _INNER), dtype, shard="column")
    down = LinearSpec("experts.0.down", _INNER, (_HIDDEN,), dtype, shard="row")
    candidates = (*subject.platform.linear_ops(), TorchLinear())
    first, second = (next(op for op in candidates if op.rejects(encoding, layer) is None) for layer in (gate_up, down))
    spec = ExpertsSpec(
        dtype=dtype,
        hidden_size=_HIDDEN,
        inner_size=_INNER,
        num_experts=_COUNT,
        top=top,
        renormalize=renormalize,
        gate_up=FusedLinear(gate_up, encoding, first.name),
        down=FusedLinear(down, encoding, second.name),
    )
    return spec, (first, second)
