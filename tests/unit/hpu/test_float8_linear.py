"""Linear layers in 8-bit floats: measured, quantised and multiplied, in torch and by the vendor's operations."""

from __future__ import annotations

import pytest
import torch

from jackfield_hpu.float8.config import Names, QuantConfig
from jackfield_hpu.float8.linear import Float8Linear, Float8Settings
from jackfield_hpu.float8.measurements import Maxima, read, write
from jackfield_hpu.float8.measuring import MeasuringLinear
from jackfield_hpu.float8.ops import linear_ops
from jackfield_hpu.float8.products import TorchProducts, VendorProducts
from jackfield_hpu.float8.scales import METHODS
from jackfield_hpu.generation import GAUDI2, GAUDI3
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec

NAME = "model.layers.0.mlp.down_proj"
LAYER = LinearSpec(NAME, 64, (48,), "bfloat16", bias=True)
PLAIN, ROWS = Encoding("float", 16), Encoding("float", 8, scale="float32")
STATIC = [name for name, method in METHODS.items() if not method.dynamic and name != "unit_scale"]
DYNAMIC = "act_maxabs_pcs_pow2_weight_maxabs_pts_pow2_hw"


def drawn(seed):
    """Inputs of 5 tokens, a weight and a bias."""
    make = torch.Generator().manual_seed(seed)
    shapes = ((5, 64), (48, 64), (48,))
    return [
        (torch.randn(shape, generator=make) * size).bfloat16() for shape, size in zip(shapes, (3, 0.1, 1), strict=True)
    ]


def settings(method="maxabs_pow2", device=GAUDI3, measured=None, **fields):
    config = QuantConfig(scale_method=method, dynamic_quantization=METHODS[method].dynamic, **fields)
    return Float8Settings(config, device, {} if measured is None else measured)


def encoded(weight, bias=None):
    return Encoded(PLAIN, weight.clone(), bias, layer=NAME)


def measured_of(x, weight):
    return {NAME: Maxima(x.abs().max().item(), weight.abs().max().item())}


def expected(x, weight, bias, packed, device):
    """Both operands rounded with the scales that the layer holds, multiplied in float64."""
    x_scale = packed.x_scale
    if x_scale is None:
        x_scale = torch.exp2(torch.ceil(torch.log2(x.float().abs().amax(-1, keepdim=True) / device.most)))
    rounded = (x.float() / x_scale).clamp(-device.most, device.most).to(torch.float8_e4m3fn)
    scale = packed.scale
    return (rounded.double() * x_scale) @ packed.data.double().T * scale + bias.double()


# The stand-in for the vendor's cast saturates as a Gaudi 3 does.
PLACES = {
    "torch, GAUDI2": (TorchProducts, GAUDI2),
    "torch": (TorchProducts, GAUDI3),
    "vendor": (VendorProducts, GAUDI3),
}


@pytest.mark.parametrize("method", [*STATIC, "unit_scale", DYNAMIC])
@pytest.mark.parametrize("scale_format", ["const", "scalar"])
@pytest.mark.parametrize("place", PLACES)
def test_products_are_those_of_the_rounded_numbers(bridge, place, method, scale_format):
    (products, device), (x, weight, bias) = PLACES[place], drawn(0)
    op = Float8Linear(settings(method, device, measured_of(x, weight), scale_format=scale_format), products())
    assert op.rejects(PLAIN, LAYER) is None
    packed = op.pack(encoded(weight, bias))
    out = op.apply(x, packed)
    assert (out.dtype, out.shape) == (torch.bfloat16, (5, 48))
    wanted = expected(x, weight, bias, packed, device)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-2, atol=1e-2 * wanted.abs().max().item())
    plain = x.double() @ weight.double().T + bias.double()
    allowed = 0.5 if method == "unit_scale" else 0.08  # without a scale most of the weight is below the smallest steps
    assert (out.double() - plain).norm() <= allowed * plain.norm()


@pytest.mark.parametrize("method", STATIC)
def test_weights_are_within_a_step_of_what_they_were(method):
    x, weight, _ = drawn(1)
    op = Float8Linear(settings(method, measured=measured_of(x, weight)), TorchProducts())
    packed = op.pack(encoded(weight))
    scale = packed.scale.t() if isinstance(packed.scale, torch.Tensor) else packed.scale
    stands = packed.data.float() * scale
    steps = weight.float().abs() / 16 + 2.0**-10 * scale
    assert ((stands - weight.float()).abs() <= steps).all()
    by_row = METHODS[method].weight_by_row
    assert isinstance(packed.scale, torch.Tensor) == by_row


def test_a_checkpoint_s_8_bit_floats_stay_what_they_are():
    x, weight, bias = drawn(2)
    data, scale = (weight * 40).to(torch.float8_e4m3fn), torch.full((48, 1), 1 / 40)
    op = Float8Linear(settings(DYNAMIC), TorchProducts())
    assert op.rejects(ROWS, LAYER) is None
    packed = op.pack(Encoded(ROWS, data, bias, scale, layer=NAME))
    assert torch.equal(packed.data.view(torch.uint8), data.view(torch.uint8))
    wanted = expected(x, weight, bias, packed, GAUDI3)
    torch.testing.assert_close(op.apply(x, packed).double(), wanted, rtol=1e-2, atol=1e-1)
    reason = Float8Linear(settings(DYNAMIC, GAUDI2), TorchProducts()).rejects(ROWS, LAYER)
    assert reason == "a checkpoint's 8-bit floats reach to 448, and GAUDI2's to 240"


def test_what_is_refused_says_why(bridge):
    x, weight, _ = drawn(3)
    op = Float8Linear(settings(measured=measured_of(x, weight), blocklist=Names(("lm_head",))), TorchProducts())
    assert op.rejects(PLAIN, LinearSpec("lm_head", 64, (48,), "bfloat16")) == "QUANT_CONFIG's blocklist holds it"
    other = LinearSpec("model.layers.1.mlp.down_proj", 64, (48,), "bfloat16")
    assert op.rejects(PLAIN, other) == "stats_hooks_maxabs.json holds no measurement of model.layers.1.mlp.down_proj"
    tied = LinearSpec(NAME, 64, (48,), "bfloat16", gathers=True)
    assert op.rejects(PLAIN, tied) == "keeps no weight to read row by row (tied embedding)"
    ints = Encoding("int", 8, scale="float32")
    assert "not 8-bit int in rows" in (op.rejects(ints, LAYER) or "")


def test_without_the_vendor_s_operations_torch_serves():
    x, weight, _ = drawn(4)
    ops = [
        Float8Linear(settings(measured=measured_of(x, weight)), made) for made in (VendorProducts(), TorchProducts())
    ]
    assert [op.rejects(PLAIN, LAYER) for op in ops] == [
        "torch.ops.hpu.cast_to_fp8_v2 is not registered by the installed software",
        None,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_measuring_multiplies_as_plain_torch_and_remembers_the_largest_input(tmp_path, seed):
    x, weight, bias = drawn(seed)
    config = QuantConfig(mode="MEASURE", dump_stats_path=str(tmp_path / "out/inc"))
    op = MeasuringLinear(config)
    assert op.rejects(PLAIN, LAYER) is None
    packed = op.pack(encoded(weight, bias))
    for part in x.split(2):
        assert torch.equal(op.apply(part, packed), torch.nn.functional.linear(part, weight, bias))
    path = op.save()
    assert path == tmp_path / "out/inc_hooks_maxabs.json"
    assert read(path) == measured_of(x, weight)


def test_a_step_with_no_numbers_does_not_spoil_what_was_measured(tmp_path):
    x, weight, _ = drawn(6)
    op = MeasuringLinear(QuantConfig(mode="MEASURE", dump_stats_path=str(tmp_path / "inc")))
    packed = op.pack(encoded(weight))
    for part in (x, x.new_full(x.shape, torch.nan), x / 2):
        op.apply(part, packed)
    assert read(op.save())[NAME].input == x.abs().max().item()


def test_nothing_is_written_where_nothing_was_measured(tmp_path):
    config = QuantConfig(mode="MEASURE", dump_stats_path=str(tmp_path / "inc"))
    op = MeasuringLinear(config)
    op.pack(encoded(drawn(0)[1]))
    assert op.save() is None
    assert not list(tmp_path.iterdir())


def test_what_was_measured_is_what_is_quantised_with(tmp_path, monkeypatch):
    monkeypatch.setattr("atexit.register", lambda function: None)
    x, weight, bias = drawn(5)
    stats = {"dump_stats_path": str(tmp_path / "inc")}
    (measuring,) = linear_ops(QuantConfig(mode="MEASURE", **stats))
    measuring.apply(x, measuring.pack(encoded(weight, bias)))
    measuring.save()
    _, op = linear_ops(QuantConfig(scale_method="maxabs_pow2", **stats))
    packed = op.pack(encoded(weight, bias))
    assert packed.x_scale == 2.0 ** torch.ceil(torch.log2(x.abs().max().float() / (448 * 0.25))).item()


def test_measurements_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(
        ValueError, match=r"nothing_hooks_maxabs.json holds no measurements: .*run in mode MEASURE first"
    ):
        linear_ops(QuantConfig(dump_stats_path=str(tmp_path / "nothing")))
    path = tmp_path / "odd.json"
    path.write_text('{"Nodes": {"layer": {"inputs": [], "params": {}}}}')
    with pytest.raises(ValueError, match=r"odd.json holds no measurements"):
        read(path)


def test_files_of_measurements_survive_being_written(tmp_path):
    maxima = {"a": Maxima(3.5, 0.25), "b": Maxima(100.0, 2.0)}
    write(tmp_path / "x/y.json", maxima)
    assert read(tmp_path / "x/y.json") == maxima
