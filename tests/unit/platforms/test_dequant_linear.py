"""The reference for encoded weights, on every encoding that it takes, against sums written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jackfield_platforms import dequant_linear
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec
from jackfield_platforms.nibbles import pack_nibbles, unpack_nibbles

SPEC = LinearSpec("layer", 8, (4,), "float32")


def random_encoded(encoding: Encoding, out_size: int, in_size: int, seed: int) -> tuple[Encoded, Tensor]:
    """A weight and what it stands for, float64 `[out, in]` in the order of the inputs."""
    make = torch.Generator().manual_seed(seed)
    blocks = (math.ceil(out_size / encoding.group_out), math.ceil(in_size / (encoding.group or in_size)))
    scale = torch.rand(blocks, generator=make) + 0.5
    zero = torch.randint(0, 2**encoding.bits + 1, blocks, generator=make, dtype=torch.int16) if encoding.zero else None
    order = torch.randperm(in_size, generator=make) if encoding.ordered else None
    numbers = torch.randint(0, 2**encoding.bits, (out_size, in_size), generator=make)
    if encoding.kind == "float":
        data = (numbers / 16 - 8).to(torch.float8_e4m3fn)
        exact = data.double()
    elif encoding.bits == 4:
        data, exact = pack_nibbles(numbers), numbers.double() - (0 if encoding.zero else 8)
    else:
        data = numbers.to(torch.uint8) if encoding.zero else (numbers - 128).to(torch.int8)
        exact = data.double()
    wanted = torch.empty_like(exact)
    for row in range(out_size):
        for column in range(in_size):
            block = row // encoding.group_out, column // (encoding.group or in_size)
            shifted = exact[row, column] - (0 if zero is None else zero[block].item())
            wanted[row, column if order is None else order[column]] = shifted * scale[block].double()
    bias = torch.randn(out_size, generator=make)
    return Encoded(encoding, data, bias, scale, zero, order), wanted


@settings(max_examples=80, deadline=None)
@given(
    encoding=st.builds(
        Encoding,
        kind=st.just("int"),
        bits=st.sampled_from([4, 8]),
        group=st.sampled_from([None, 4, 6]),
        group_out=st.sampled_from([1, 3]),
        scale=st.just("float32"),
        zero=st.booleans(),
        ordered=st.booleans(),
    )
    | st.builds(
        Encoding,
        kind=st.just("float"),
        bits=st.just(8),
        group=st.sampled_from([None, 4, 7]),
        group_out=st.sampled_from([1, 5]),
        scale=st.just("float32"),
        ordered=st.booleans(),
    ),
    out_size=st.integers(1, 11),
    in_half=st.integers(1, 12),
    panel=st.sampled_from([1, 37, 2**20]),
    seed=st.integers(0, 1000),
)
def test_products_and_rows_are_those_of_the_numbers(
    encoding: Encoding, out_size: int, in_half: int, panel: int, seed: int
) -> None:
    encoded, wanted = random_encoded(encoding, out_size, 2 * in_half, seed)
    op, x = TorchDequantLinear(), torch.randn(3, 2 * in_half)
    assert op.rejects(encoding, SPEC) is None
    packed = op.pack(encoded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dequant_linear, "_PANEL_NUMBERS", panel)
        got = op.apply(x, packed)
    assert encoded.bias is not None
    assert torch.allclose(got.double(), x.double() @ wanted.t() + encoded.bias.double(), rtol=1e-5, atol=1e-2)
    ids = torch.randint(out_size, (5,))
    assert torch.allclose(op.rows(packed, ids).double(), wanted[ids], rtol=1e-6)


def test_refusals_say_why() -> None:
    op = TorchDequantLinear()
    assert "plain floats need not be" in str(op.rejects(Encoding("float", 16), SPEC))
    assert "not 3-bit int in groups of 64" in str(op.rejects(Encoding("int", 3, 64, scale="float16"), SPEC))
    assert "not 4-bit float" in str(op.rejects(Encoding("float", 4, 32, scale="float16"), SPEC))
    assert "8-bit int in rows has no scale" in str(op.rejects(Encoding("int", 8), SPEC))


def test_a_product_is_one_graph() -> None:
    encoded, _ = random_encoded(Encoding("int", 4, 4, scale="float32", zero=True, ordered=True), 6, 8, 1)
    op, x = TorchDequantLinear(), torch.randn(2, 8)
    compiled = torch.compile(lambda x: op.apply(x, encoded), fullgraph=True, dynamic=False, backend="eager")
    assert torch.equal(compiled(x), op.apply(x, encoded))


@given(pairs=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1))
def test_nibbles_come_back_as_they_went(pairs: list[tuple[int, int]]) -> None:
    numbers = torch.tensor(pairs).flatten()
    packed = pack_nibbles(numbers)
    assert packed.tolist() == [low + 16 * high for low, high in pairs]
    assert torch.equal(unpack_nibbles(packed), numbers.to(torch.uint8))
