"""The kernels' mixture of experts against float64, over random sizes and routings, eager and recorded."""

from __future__ import annotations

import msgspec
import native_levels
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jackfield_cpu.native_experts import experts
from jackfield_cpu.native_graphs import NativeRecorder
from jackfield_cpu.native_linear import NativeLinear
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.dequant_linear import dequantise
from jackfield_platforms.experts import ExpertsSpec, ExpertWeights, plain_experts
from jackfield_platforms.fusion import FusedLinear, PackedLinear
from jackfield_platforms.graph import ProgramKey
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, torch_dtype

levels = pytest.mark.parametrize("level", native_levels.levels())
INT8 = Encoding("int", 8, scale="float32")


class Drawn(msgspec.Struct, frozen=True, eq=False):
    """Experts packed for the kernels, and their weights in float64."""

    spec: ExpertsSpec
    weights: ExpertWeights
    wide: tuple[Tensor, Tensor]  # [experts, out, in]: gate and up; down


def encoded(kind: str, out_size: int, in_size: int, dtype: str, generator: torch.Generator) -> Encoded:
    if kind == "int8":
        data = torch.randint(-127, 128, (out_size, in_size), dtype=torch.int8, generator=generator)
        scale = torch.rand(out_size, 1, generator=generator) / 64 / in_size**0.5
        return Encoded(INT8, data, None, scale, dtype=dtype)
    weight = (torch.randn(out_size, in_size, generator=generator) / in_size**0.5).to(torch_dtype(dtype))
    return Encoded(Encoding("float", weight.itemsize * 8), weight)


def numbers(one: Encoded) -> Tensor:
    whole = one.data if one.encoding.is_plain else dequantise(one, slice(0, len(one.data)))
    return whole.double()


def draw(kernels, kind: str, sizes: tuple[int, int, int, int], dtype: str, generator: torch.Generator) -> Drawn:
    hidden, inner, count, top = sizes
    op, packed, wide = NativeLinear(kernels), [], []
    layers = (LinearSpec("gate_up", hidden, (inner, inner), dtype), LinearSpec("down", inner, (hidden,), dtype))
    for layer in layers:
        every = [encoded(kind, layer.out_size, layer.in_size, dtype, generator) for _ in range(count)]
        wide.append(torch.stack([numbers(one) for one in every]))
        packed.append(tuple(PackedLinear(op, op.pack(one)) for one in every))
        encoding = every[0].encoding
    gate_up, down = (FusedLinear(layer, encoding, op.name) for layer in layers)
    spec = ExpertsSpec(
        dtype=dtype, hidden_size=hidden, inner_size=inner, num_experts=count, top=top,
        renormalize=bool(torch.randint(2, (), generator=generator)), gate_up=gate_up, down=down,
    )  # fmt: skip
    return Drawn(spec, ExpertWeights(*packed), tuple(wide))


def routed(tokens: int, count: int, crowded: bool, dtype: str, generator: torch.Generator) -> Tensor:
    """Logits of which no two of a token are near one another; `crowded`: every token's are the same."""
    order = torch.rand(1 if crowded else tokens, count, generator=generator).argsort(-1)
    return (order.expand(tokens, count) * 0.25).to(torch_dtype(dtype)).contiguous()


def definition(drawn: Drawn, x: Tensor, logits: Tensor) -> tuple[Tensor, float]:
    """What each token gets, and by how much that may differ: a part of its terms' sizes, which may cancel out."""
    spec, (gate_up, down) = drawn.spec, drawn.wide
    share = logits.double().softmax(-1) * (logits >= logits.sort(-1).values[:, -spec.top, None])
    if spec.renormalize:
        share = share / share.sum(-1, keepdim=True)
    gate, up = torch.einsum("th,eih->eti", x.double(), gate_up).chunk(2, -1)
    terms = torch.nn.functional.silu(gate) * up
    size = torch.einsum("te,eti,ehi->th", share, terms.abs(), down.abs()).max()
    allowed = (2e-6 if spec.dtype == "float32" else 1.5e-2) * float(size)
    return torch.einsum("te,eti,ehi->th", share, terms, down), allowed


@levels
@torch.inference_mode()
@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["float", "int8"]),
    hidden=st.integers(1, 120).map(lambda half: 2 * half),
    inner=st.integers(1, 7).map(lambda panels: 16 * panels),
    count=st.integers(1, 40),
    top=st.integers(1, 9),
    tokens=st.one_of(st.just(1), st.integers(2, 40), st.integers(1000, 1100)),
    crowded=st.booleans(),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**31),
)
def test_every_token_is_the_sum_of_its_experts(
    level, kind, hidden, inner, count, top, tokens, crowded, dtype, threads, seed
):
    generator, kernels = torch.Generator().manual_seed(seed), native_levels.kernels_of(level, threads)
    drawn = draw(kernels, kind, (hidden, inner, count, min(top, count)), dtype, generator)
    x = torch.randn(tokens, hidden + 3, generator=generator).to(torch_dtype(dtype))[:, :hidden]  # strided
    logits = routed(tokens, count, crowded, dtype, generator)
    wanted, allowed = definition(drawn, x, logits)
    got = experts(kernels, drawn.spec)(drawn.weights)(x, logits)
    assert got.dtype == x.dtype
    assert (got.double() - wanted).abs().max() <= allowed
    plain = plain_experts(drawn.spec, drawn.weights)(x, logits)
    assert (plain.double() - wanted).abs().max() <= allowed


@torch.inference_mode()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_recording_routes_each_step_anew(dtype):
    generator, kernels = torch.Generator().manual_seed(3), native_levels.kernels_of(native_levels.levels()[0], 2)
    drawn = draw(kernels, "float", (64, 48, 12, 3), dtype, generator)
    product, most = experts(kernels, drawn.spec)(drawn.weights), 50
    recorder, key = NativeRecorder(kernels), ProgramKey("test", Bucket("mixed", 50, 50))
    buffers = tuple(torch.zeros(most, width, dtype=torch_dtype(dtype)) for width in (64, 12))
    assert isinstance(recorder.capture(key, product, buffers, most), int)
    for tokens in (1, 50, 13):
        x = torch.randn(tokens, 64, generator=generator).to(torch_dtype(dtype))
        logits = routed(tokens, 12, False, dtype, generator)
        for buffer, new in zip(buffers, (x, logits), strict=True):
            buffer.fill_(float("nan"))[:tokens] = new
        assert torch.equal(recorder.run(key, tokens)[:tokens], product(x, logits))


@torch.inference_mode()
def test_a_token_of_no_numbers_harms_no_other():
    generator, kernels = torch.Generator().manual_seed(4), native_levels.kernels_of(native_levels.levels()[0], 2)
    drawn = draw(kernels, "float", (32, 32, 5, 2), "float32", generator)
    x, logits = torch.randn(9, 32, generator=generator), routed(9, 5, False, "float32", generator)
    x[4], logits[4] = float("nan"), float("nan")
    got, kept = experts(kernels, drawn.spec)(drawn.weights)(x, logits), torch.arange(9) != 4
    assert got[4].isnan().all()
    wanted, allowed = definition(drawn, x[kept], logits[kept])
    assert (got[kept] - wanted).abs().max() <= allowed


def test_what_the_kernels_cannot_multiply_is_refused_with_the_reason():
    generator, kernels = torch.Generator().manual_seed(5), native_levels.kernels_of(native_levels.levels()[0], 2)
    spec = draw(kernels, "float", (32, 32, 4, 2), "float32", generator).spec
    replace = msgspec.structs.replace
    assert experts("no compiler", spec) == "no compiler"
    assert "not float16" in experts(kernels, replace(spec, dtype="float16"))
    assert experts(kernels, replace(spec, inner_size=24)) == "inner_size must be a multiple of 16; it is 24"
    assert experts(kernels, replace(spec, down=replace(spec.down, op="torch"))) == "down is multiplied by torch"
