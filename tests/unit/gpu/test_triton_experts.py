"""Experts under Triton's interpreter: the kit's routings against float64, narrow weights, and shapes that stay."""

from __future__ import annotations

import msgspec
import pytest
import torch
from kernel_subject import ARCHS, SEEDS, subject

from jackfield_gpu.experts.experts import experts
from jackfield_gpu.experts.routing import route
from jackfield_gpu.experts.tiles import most_blocks
from jackfield_gpu.linear.weight_only import WeightOnlyLinear
from jackfield_platforms.experts import ExpertsSpec, ExpertWeights, plain_experts
from jackfield_platforms.fusion import FusedLinear, PackedLinear
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, TorchLinear, torch_dtype
from jackfield_platforms.nibbles import pack_nibbles
from jackfield_platforms.testing.conformance import experts_checks

COUNT, HIDDEN, INNER = 5, 64, 48


def spec_of(op: str, encoding: Encoding, top: int = 2) -> ExpertsSpec:
    gate_up = LinearSpec("experts.0.gate_up", HIDDEN, (INNER, INNER), "float32")
    down = LinearSpec("experts.0.down", INNER, (HIDDEN,), "float32")
    return ExpertsSpec(
        dtype="float32",
        hidden_size=HIDDEN,
        inner_size=INNER,
        num_experts=COUNT,
        top=top,
        renormalize=True,
        gate_up=FusedLinear(gate_up, encoding, op),
        down=FusedLinear(down, encoding, op),
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("arch", ARCHS)
def test_the_kit_s_checks_hold(arch, seed):
    cases = list(experts_checks.experts(subject(arch)))
    assert len(cases) == 12
    for _, case in cases:
        experts_checks.check_experts(case, seed)


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding("int", 8, scale="float32"),
        Encoding("int", 4, 16 * 2, scale="float32"),
        Encoding("float", 8, 16, group_out=8, scale="float32"),
        Encoding("int", 4, 32, scale="float16", zero=True),
        Encoding("int", 8, 16, scale="float32", zero=True),
        Encoding("int", 8, scale="float16", zero=True),
    ],
    ids=Encoding.describe,
)
@pytest.mark.parametrize("tokens", [1, 100])
def test_experts_of_narrow_weights_are_those_of_plain_torch(encoding, tokens):
    """Where weights have zero points, the second expert's all lie in the middle, and so it has none."""
    op = WeightOnlyLinear(ARCHS["sm_90"], 132)

    def packed(outs: int, width: int) -> tuple[PackedLinear, ...]:
        made = []
        for expert in range(COUNT):
            own = msgspec.structs.replace(encoding, zero=encoding.zero and expert != 1)
            numbers = torch.randint(0, 2**encoding.bits, (outs, width))
            if encoding.bits == 4:
                data = pack_nibbles(numbers)
            elif own.zero:
                data = numbers.to(torch.uint8)
            elif encoding.kind == "int":
                data = (numbers - 128).to(torch.int8)
            else:
                data = (numbers - 128).float().to(torch.float8_e4m3fn)
            blocks = -(-outs // encoding.group_out), -(-width // (encoding.group or width))
            scale = (torch.rand(blocks) / 2 ** (encoding.bits - 1) / width**0.5).to(torch_dtype(str(own.scale)))
            zero = torch.randint(0, 2**encoding.bits + 1, blocks, dtype=torch.int16) if own.zero else None
            made.append(PackedLinear(op, op.pack(Encoded(own, data, scale=scale, zero=zero))))
        return tuple(made)

    spec = spec_of(op.name, encoding)
    weights = ExpertWeights(packed(2 * INNER, HIDDEN), packed(HIDDEN, INNER))
    make = experts(ARCHS["sm_90"], spec)
    assert not isinstance(make, str)
    x, logits = torch.randn(tokens, HIDDEN), torch.randn(tokens, COUNT)
    torch.testing.assert_close(make(weights)(x, logits), plain_experts(spec, weights)(x, logits), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 16])
def test_tiles_are_enough_for_any_routing(rows):
    for seed in range(50):
        torch.manual_seed(seed)
        tokens = int(torch.randint(1, 40, ()))
        logits = torch.randn(1 if seed % 3 == 0 else tokens, COUNT).expand(tokens, -1)
        routing = route(spec_of(TorchLinear.name, Encoding("float", 32)), logits, rows)
        assert int(routing.blocks[-1]) <= most_blocks(2 * tokens, COUNT, rows)
        assert routing.starts.tolist() == sorted(routing.starts.tolist())
        assert int(routing.starts[-1]) == 2 * tokens


def test_no_token_needs_no_expert():
    encoding = Encoding("float", 32)
    spec, op = spec_of(TorchLinear.name, encoding), TorchLinear()
    weights = ExpertWeights(
        tuple(PackedLinear(op, Encoded(encoding, torch.randn(2 * INNER, HIDDEN))) for _ in range(COUNT)),
        tuple(PackedLinear(op, Encoded(encoding, torch.randn(HIDDEN, INNER))) for _ in range(COUNT)),
    )
    make = experts(ARCHS["sm_90"], spec)
    assert not isinstance(make, str)
    assert make(weights)(torch.zeros(0, HIDDEN), torch.zeros(0, COUNT)).shape == (0, HIDDEN)


def test_what_differs_from_expert_to_expert_is_refused():
    encoding = Encoding("int", 4, 32, scale="float16", zero=True, ordered=True)
    assert "differs from expert to expert" in str(experts(ARCHS["sm_90"], spec_of(WeightOnlyLinear.name, encoding)))
    assert "is multiplied by panels" in str(experts(ARCHS["sm_90"], spec_of("panels", Encoding("float", 32))))
