"""Products with 8- and 4-bit weights under Triton's interpreter: the kit's encodings, splits, tails and refusals."""

from __future__ import annotations

import pytest
import torch
from kernel_subject import ARCHS, SEEDS, subject

from jackfield_gpu.linear.narrow_weight import pack
from jackfield_gpu.linear.tiles import TILES, columns_within, splits_for, tile_for
from jackfield_gpu.linear.weight_only import WeightOnlyLinear
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec
from jackfield_platforms.nibbles import pack_nibbles
from jackfield_platforms.testing.conformance import encoded_checks

NAME = WeightOnlyLinear.name
LAYER = LinearSpec("layer", 256, (64,), "float32")


def taken(cases):
    """Those of the kernels; large ones, seconds each, in one encoding alone."""
    ours = ((name, case) for name, case in cases if name.startswith(NAME))
    return [(name, case) for name, case in ours if case.layer.in_size < 1000 or "float16-int4_zero" in name]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("arch", "multiprocessors"), [("sm_90", 132), ("gfx942", 1)])
def test_products_in_every_encoding(arch, multiprocessors, seed):
    cases = taken(encoded_checks.encoded(subject(arch, multiprocessors)))
    assert {name.split("-")[-2] for name, _ in cases} == set(encoded_checks.ENCODINGS)
    for _, case in cases:
        encoded_checks.check_products_of_encoded_weights(case, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_out_of_a_tied_head(seed):
    cases = taken(encoded_checks.encoded_table(subject("sm_90")))
    assert cases
    assert not [name for name, _ in cases if "int4" in name]
    for _, case in cases:
        encoded_checks.check_rows_of_encoded_weights(case, seed)


@pytest.mark.parametrize("rows", [1, 20, 150])
def test_every_tile_of_the_table_multiplies_right(rows):
    scale = torch.rand(96, 4) / 64
    data = pack_nibbles(torch.randint(0, 16, (96, 512)))
    encoded = Encoded(Encoding("int", 4, 128, scale="float32"), data, scale=scale)
    x = torch.randn(rows, 512)
    wanted = TorchDequantLinear().apply(x, encoded)
    for arch in ARCHS.values():
        op = WeightOnlyLinear(arch, 8)
        torch.testing.assert_close(op.apply(x, op.pack(encoded)), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_one_scale_may_have_a_zero_point(bits):
    numbers = torch.randint(0, 2**bits, (40, 96))
    scale, zero = torch.rand(40, 1) / 2**bits, torch.randint(0, 2**bits + 1, (40, 1), dtype=torch.int16)
    data = pack_nibbles(numbers) if bits == 4 else numbers.to(torch.uint8)
    op, x = WeightOnlyLinear(ARCHS["sm_90"], 1), torch.randn(3, 96)
    got = op.apply(x, op.pack(Encoded(Encoding("int", bits, scale="float32", zero=True), data, scale=scale, zero=zero)))
    torch.testing.assert_close(got, x @ ((numbers - zero) * scale).T, rtol=1e-4, atol=1e-4)


def test_all_8_bit_floats_are_widened_exactly():
    codes = torch.arange(256, dtype=torch.uint8)
    codes = codes[(codes & 127) != 127]  # two are no numbers
    weight = codes.view(torch.float8_e4m3fn)[:, None].expand(-1, 16).contiguous()
    encoded = Encoded(Encoding("float", 8, scale="float32"), weight, scale=torch.ones(len(codes), 1))
    op = WeightOnlyLinear(ARCHS["sm_90"], 1)
    x = torch.zeros(1, 16)
    x[0, 3] = 1
    assert torch.equal(op.apply(x, op.pack(encoded))[0], codes.view(torch.float8_e4m3fn).float())


def test_sums_are_the_same_in_every_run():
    op, x = WeightOnlyLinear(ARCHS["sm_90"], 132), torch.randn(2, 2048)
    data = torch.randint(-127, 128, (64, 2048)).to(torch.int8)
    packed = op.pack(Encoded(Encoding("int", 8, scale="float32"), data, scale=torch.rand(64, 1)))
    first = op.apply(x, packed)
    assert all(torch.equal(op.apply(x, packed), first) for _ in range(3))


def test_no_rows_need_no_product():
    op = WeightOnlyLinear(ARCHS["sm_90"], 132)
    data = torch.zeros(8, 32, dtype=torch.int8)
    packed = op.pack(Encoded(Encoding("int", 8, scale="float32"), data, scale=torch.ones(8, 1)))
    assert op.apply(torch.zeros(0, 32), packed).shape == (0, 8)


@pytest.mark.parametrize(
    ("encoding", "layer", "why"),
    [
        (Encoding("float", 16), LAYER, "plain floats are wider"),
        (Encoding("int", 8), LAYER, "scaled"),
        (Encoding("int", 4, 24, scale="float16"), LAYER, "holds no tile of 32 columns"),
        (Encoding("float", 8, 8, scale="float32"), LAYER, "holds no tile of 16 columns"),
        (Encoding("int", 4, 32, scale="float16"), LinearSpec("e", 256, (64,), "float32", gathers=True), "row by row"),
        (Encoding("int", 8, scale="float32"), LinearSpec("e", 256, (64,), "float64"), "computes in"),
    ],
)
def test_what_it_cannot_multiply_it_refuses_with_a_reason(encoding, layer, why):
    assert why in (WeightOnlyLinear(ARCHS["sm_90"], 1).rejects(encoding, layer) or "")


def test_nibbles_lie_in_the_order_of_tiles():
    numbers = torch.arange(64).remainder(16)[None, :]
    packed = pack(Encoded(Encoding("int", 4, 32, scale="float32"), pack_nibbles(numbers), scale=torch.ones(1, 2)))
    assert packed.columns == 32
    low, high = packed.encoded.data & 15, packed.encoded.data >> 4
    assert torch.equal(low[0, :16], numbers[0, :16].to(torch.uint8))
    assert torch.equal(high[0, :16], numbers[0, 16:32].to(torch.uint8))


def test_a_tile_s_columns_lie_in_one_group():
    groups = (None, 16, 32, 48, 96, 128, 1024, 24)
    assert [columns_within(group, 128) for group in groups] == [128, 16, 32, 16, 32, 128, 128, 0]


def test_parts_keep_a_gpu_busy_and_are_not_too_small():
    assert splits_for(tiles=1000, steps=64, multiprocessors=132) == 1
    assert splits_for(tiles=64, steps=64, multiprocessors=132) == 4
    assert splits_for(tiles=1, steps=8, multiprocessors=132) == 2
    assert splits_for(tiles=1, steps=2, multiprocessors=132) == 1


def test_the_tile_depends_on_the_number_of_rows_alone():
    for arch in ARCHS.values():
        assert [tile_for(arch, 16, rows).rows for rows in (1, 16, 17, 64, 65, 8192)] == [16, 16, 64, 64, 128, 128]
    assert {bits for _, bits in TILES} == {16, 32}
