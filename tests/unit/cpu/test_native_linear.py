"""The kernels' products against float64: every format, instruction set and number of rows, over random sizes."""

from __future__ import annotations

import native_levels
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jackfield_cpu.native_linear import NativeLinear
from jackfield_platforms.dequant_linear import dequantise
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, torch_dtype
from jackfield_platforms.nibbles import pack_nibbles

FORMATS = ("float32", "bfloat16", "int8", "int4", "int4 with zeros")
FLOAT32_SUMS, BFLOAT16 = 3e-6, 2.0**-8
# of native/product.h and digits.h: inputs that share a scale, the whole number of the largest, rows that split weights
STEP, LARGEST, SPLIT_ROWS, STREAMED_ROWS = 128, 32512, 40, 4
levels = pytest.mark.parametrize("level", native_levels.levels())


def encoded(
    kind: str, out_size: int, in_size: int, dtype: str, generator: torch.Generator
) -> tuple[Encoded, torch.Tensor]:
    """A weight with a bias, and what it stands for in float64."""
    bias = torch.randn(out_size, generator=generator).to(torch_dtype(dtype))
    if kind in ("float32", "bfloat16"):
        weight = torch.randn(out_size, in_size, generator=generator).to(torch_dtype(kind))
        return Encoded(Encoding("float", weight.itemsize * 8), weight, bias.to(weight.dtype)), weight.double()
    if kind == "int8":
        data = torch.randint(-128, 128, (out_size, in_size), dtype=torch.int8, generator=generator)
        scale = torch.rand(out_size, 1, generator=generator) / 64
        whole = Encoded(Encoding("int", 8, scale="float32"), data, bias, scale, dtype=dtype)
    else:
        group, zeros = 32, "zeros" in kind
        groups = -(-in_size // group)
        data = pack_nibbles(torch.randint(0, 16, (out_size, in_size), generator=generator))
        scale = torch.rand(out_size, groups, generator=generator) / 8
        zero = torch.randint(0, 17, (out_size, groups), dtype=torch.int16, generator=generator) if zeros else None
        encoding = Encoding("int", 4, group=group, scale="float32", zero=zeros)
        whole = Encoded(encoding, data, bias, scale, zero, dtype=dtype)
    return whole, dequantise(whole, slice(0, out_size)).double()


def digits_error(x: torch.Tensor, weight: torch.Tensor, *, split: bool) -> torch.Tensor:
    """The most that whole numbers may differ: each by half a unit of its step's largest. Where weights are split too,
    they differ as well, and low times low is left out.
    """
    allowed = torch.zeros(len(x), len(weight), dtype=torch.float64)
    for a, w in zip(x.double().split(STEP, 1), weight.split(STEP, 1), strict=True):
        most_a, most_w = a.abs().amax(1, keepdim=True), w.abs().amax(1, keepdim=True)
        allowed += most_a * w.abs().sum(1) / LARGEST / 2
        if split:
            allowed += a.abs().sum(1, keepdim=True) * most_w.t() / LARGEST / 2
            allowed += a.shape[1] * most_a * most_w.t() * (128 / LARGEST) ** 2
    return allowed * 1.01


def in_digits(level: str, kind: str, rows: int) -> bool:
    """Whether bfloat16 rows are multiplied as whole numbers."""
    if kind == "bfloat16":
        return level == "avx512_vnni" and rows >= SPLIT_ROWS
    if kind == "int8" and level == "avx512_amx":
        return rows <= STREAMED_ROWS  # more are multiplied as bfloat16, which int8 is exactly
    return kind != "float32" and level in ("avx512_amx", "avx512_bf16", "avx512_vnni")


@levels
@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=15, deadline=None)
@given(
    out_size=st.integers(1, 150),
    in_size=st.integers(1, 350).map(lambda half: 2 * half),
    rows=st.one_of(st.integers(1, 30), st.integers(31, 600)),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    threads=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**31),
)
def test_every_element_is_the_product(level, kind, out_size, in_size, rows, dtype, threads, seed):
    generator = torch.Generator().manual_seed(seed)
    op = NativeLinear(native_levels.kernels_of(level, threads))
    weight, exact_weight = encoded(kind, out_size, in_size, dtype, generator)
    bias = weight.bias.double()
    packed = op.pack(weight)
    wide = torch.full((rows, in_size + 5), float("nan"), dtype=torch_dtype(dtype))
    x = wide[:, 3 : in_size + 3].copy_(torch.randn(rows, in_size, generator=generator))  # rows of a wider matrix
    got = op.apply(x, packed)
    exact = x.double() @ exact_weight.t() + bias
    magnitude = x.double().abs() @ exact_weight.abs().t() + bias.abs()
    allowed = FLOAT32_SUMS * magnitude + (BFLOAT16 * exact.abs() if dtype == "bfloat16" else 0)
    if dtype == "bfloat16" and in_digits(level, kind, rows):
        allowed += digits_error(x, exact_weight, split=kind == "bfloat16")
    assert got.dtype == x.dtype
    assert ((got.double() - exact).abs() <= allowed + 1e-30).all()


@levels
@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
@pytest.mark.parametrize(("rows", "in_size"), [(65, 4190), (545, 2046), (545, 2050), (1030, 4190)])
def test_blocks_of_many_rows_and_many_inputs(level, kind, rows, in_size):
    """Sizes about those of native/unit_panels.h: 512 rows, 64 and 32 steps of 32 inputs, four pairs of panels."""
    generator = torch.Generator().manual_seed(rows + in_size)
    weight, exact_weight = encoded(kind, 16 * 13 - 5, in_size, "bfloat16", generator)
    bias = weight.bias.double()
    op = NativeLinear(native_levels.kernels_of(level, 1))  # one thread takes all panels
    packed = op.pack(weight)
    op.apply(torch.full((rows + 30, in_size), float("nan"), dtype=torch.bfloat16), packed)  # what buffers hold now
    x = torch.randn(rows, in_size, generator=generator).bfloat16()
    got = op.apply(x, packed).double()
    exact = x.double() @ exact_weight.t() + bias
    allowed = FLOAT32_SUMS * (x.double().abs() @ exact_weight.abs().t() + bias.abs()) + BFLOAT16 * exact.abs()
    if in_digits(level, kind, rows):
        allowed += digits_error(x, exact_weight, split=kind == "bfloat16")
    assert ((got - exact).abs() <= allowed + 1e-30).all()


@levels
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_bit_depends_on_which_thread_took_which_panels(level, kind, dtype):
    generator = torch.Generator().manual_seed(2)
    weight, _ = encoded(kind, 16 * 37 - 5, 320, dtype, generator)
    for rows in (1, 2, 4, 5, 30, 300):
        x = torch.randn(rows, 320, generator=generator).to(torch_dtype(dtype))
        answers = []
        for threads in (1, 2, 3):
            op = NativeLinear(native_levels.kernels_of(level, threads))
            packed = op.pack(weight)
            answers += [op.apply(x, packed) for _ in range(20)]
        assert all(torch.equal(answer, answers[0]) for answer in answers)


@levels
@pytest.mark.parametrize("kind", FORMATS)
def test_rows_of_the_weight(level, kind):
    generator = torch.Generator().manual_seed(1)
    op = NativeLinear(native_levels.kernels_of(level, 2))
    dtype = "bfloat16" if kind == "bfloat16" else "float32"
    weight, exact = encoded(kind, 77, 70, dtype, generator)
    ids = torch.tensor([0, 76, 15, 16, 40, 0])
    got = op.rows(op.pack(weight), ids)
    assert got.dtype == torch_dtype(dtype)
    assert torch.allclose(got.double(), exact[ids], rtol=1e-6, atol=1e-6)
    assert op.rows(op.pack(encoded(kind, 77, 70, dtype, generator)[0]), ids[:0]).shape == (0, 70)


@pytest.mark.parametrize("strange", [-1, 77])
def test_an_id_that_is_no_row_is_refused(strange):
    op = NativeLinear(native_levels.kernels_of(native_levels.levels()[0], 2))
    packed = op.pack(Encoded(Encoding("float", 32), torch.ones(77, 70)))
    with pytest.raises(IndexError, match=f"ids must be 0 to 76; got {strange}"):
        op.rows(packed, torch.tensor([3, strange, 4]))


@levels
@pytest.mark.parametrize("rows", [1, 5, 13, 490])
def test_nothing_outside_of_the_answer_is_written_and_garbage_is_not_read(level, rows):
    op = NativeLinear(native_levels.kernels_of(level, 2))
    packed = op.pack(Encoded(Encoding("float", 16), torch.ones(35, 46, dtype=torch.bfloat16)))
    for _ in range(3):  # buffers of the kernels hold what the call before left in them
        poison = op.apply(torch.full((rows + 30, 46), float("nan"), dtype=torch.bfloat16), packed)
        assert poison.isnan().all()
        got = op.apply(torch.ones(rows, 46, dtype=torch.bfloat16), packed)
        assert got.eq(46).all()


def test_no_rows_are_no_work():
    op = NativeLinear(native_levels.kernels_of(native_levels.levels()[0], 2))
    packed = op.pack(Encoded(Encoding("float", 32), torch.ones(35, 46)))
    assert op.apply(torch.ones(0, 46), packed).shape == (0, 35)


@pytest.mark.parametrize(
    ("encoding", "dtype", "words"),
    [
        (Encoding("float", 16), "float16", "computes in float32 or bfloat16, not float16"),
        (Encoding("float", 8, scale="float32"), "bfloat16", "not 8-bit float in rows"),
        (Encoding("int", 8, scale="float32", zero=True), "bfloat16", "not 8-bit int in rows with zero points"),
        (Encoding("int", 8, group=128, scale="float32"), "bfloat16", "not 8-bit int in groups of 128"),
        (Encoding("int", 4, group=12, scale="float32"), "bfloat16", "not 4-bit int in groups of 12"),
        (Encoding("int", 4, group=32, scale="float32", ordered=True), "bfloat16", "inputs reordered"),
    ],
)
def test_what_is_refused_is_named(encoding, dtype, words):
    op = NativeLinear(native_levels.kernels_of(native_levels.levels()[0], 1))
    assert words in op.rejects(encoding, LinearSpec("layer", 96, (100,), dtype))


def test_without_kernels_the_reason_is_told():
    assert (
        NativeLinear("no compiler").rejects(Encoding("float", 16), LinearSpec("layer", 8, (8,), "bfloat16"))
        == "no compiler"
    )
