"""8-bit activations under Triton's interpreter, against sums of the very numbers that were rounded."""

from __future__ import annotations

import pytest
import torch
from kernel_subject import ARCHS

from jackfield_gpu.arch import nvidia
from jackfield_gpu.linear.scaled import SWITCH, ScaledFloat8Linear, own_floats, round_rows, rounds_activations
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, torch_dtype

LAYER = LinearSpec("layer", 256, (64,), "float32")
ROWS, BLOCKS = Encoding("float", 8, scale="float32"), Encoding("float", 8, 128, group_out=128, scale="float32")


def drawn(encoding: Encoding, outs: int, width: int) -> tuple[Encoded, torch.Tensor]:
    """A weight, and float64 numbers that it stands for."""
    numbers = torch.randn(outs, width).to(torch.float8_e4m3fn)
    group, group_out = encoding.group or width, encoding.group_out
    scale = torch.rand(-(-outs // group_out), -(-width // group)) + 0.5
    each = scale.repeat_interleave(group_out, 0)[:outs].repeat_interleave(group, 1)[:, :width]
    return Encoded(encoding, numbers, torch.randn(outs), scale), numbers.double() * each.double()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("encoding", [ROWS, BLOCKS, Encoding("float", 8, group_out=160, scale="float32")])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_products_are_those_of_the_rounded_activations(arch, encoding, rows):
    encoded, stands = drawn(encoding, 160, 304)
    x = torch.randn(rows, 304) * torch.rand(rows, 1) * 10
    op = ScaledFloat8Linear(ARCHS[arch])
    packed = op.pack(encoded)
    rounded, scale = round_rows(x, encoding.group or 0, packed.data.dtype)
    steps = scale.double().repeat_interleave(encoding.group or 512, 1)[:, :304]
    wanted = (rounded.double() * steps) @ stands.T + encoded.bias.double()
    torch.testing.assert_close(op.apply(x, packed).double(), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e4m3fnuz])
@pytest.mark.parametrize("group", [0, 128])
def test_a_rounded_number_is_within_half_a_step(dtype, group):
    x = torch.randn(4, 300) * 3
    x[1] = 0
    rounded, scale = round_rows(x, group, dtype)
    back = rounded.float() * scale.repeat_interleave(group or 512, 1)[:, :300]
    steps = scale.repeat_interleave(group or 512, 1)[:, :300]
    assert ((back - x).abs() <= x.abs() * 2**-4 + steps * 2**-9).all()
    assert rounded.float().abs().max() == torch.finfo(dtype).max


def test_own_floats_of_an_mi300_stand_for_the_same_numbers():
    codes = torch.arange(256, dtype=torch.uint8)
    numbers = codes[(codes & 127) != 127].view(torch.float8_e4m3fn)
    data, factor = own_floats(numbers, "float8_e4m3fnuz")
    assert data.dtype == torch_dtype("float8_e4m3fnuz")
    assert torch.equal(data.float() * factor, numbers.float() + 0.0)


@pytest.mark.parametrize(
    ("arch", "encoding", "layer", "why"),
    [
        (nvidia(8, 0), ROWS, LAYER, "sm_80 multiplies no 8-bit floats"),
        (ARCHS["sm_90"], Encoding("int", 8, scale="float32"), LAYER, "8-bit floats with scales"),
        (ARCHS["sm_90"], Encoding("float", 8, 64, scale="float32"), LAYER, "by 128"),
        (ARCHS["sm_90"], ROWS, LinearSpec("layer", 40, (64,), "float32"), "multiples of 16"),
        (ARCHS["sm_90"], ROWS, LinearSpec("layer", 256, (64,), "float32", gathers=True), "row by row"),
    ],
)
def test_refusals_say_why(arch, encoding, layer, why):
    assert why in (ScaledFloat8Linear(arch).rejects(encoding, layer) or "")


def test_activations_are_rounded_only_where_a_user_asks(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    assert not rounds_activations()
    monkeypatch.setenv(SWITCH, "1")
    assert rounds_activations()
    monkeypatch.setenv(SWITCH, "yes")
    with pytest.raises(ValueError, match="must be 0 or 1; got 'yes'"):
        rounds_activations()
