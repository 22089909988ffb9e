"""The vendor's Neural Compressor itself, on the host: its measurements are read here, and its scales are ours.

Needs the distribution neural-compressor-pt, which is in no extra of ours: `pip install neural-compressor-pt`. On the
CPU it quantises with `use_qdq` alone, and has no scales of a device.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from jackfield_hpu.float8.config import QuantConfig
from jackfield_hpu.float8.linear import Float8Linear, Float8Settings
from jackfield_hpu.float8.measurements import read
from jackfield_hpu.float8.products import TorchProducts
from jackfield_hpu.generation import GAUDI3
from jackfield_platforms.linear import Encoded, Encoding

pytest.importorskip("neural_compressor", reason="neural-compressor-pt is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own

# Largest differences of products, as a share of their size. INC rounds scales to bfloat16, which changes those that are
# no powers of two, and with them 8-bit roundings; products in 8 bits differ from those in 16 by 0.035.
METHODS = {
    "unit_scale": 0.005,
    "maxabs_pow2": 0.005,
    "maxabs_arbitrary": 0.025,
    "act_maxabs_pow2_weights_pcs_maxabs_pow2": 0.005,
}
SIZES = {"first": (64, 96), "second": (96, 32)}


class Two(nn.Module):
    """Two layers, one behind the other."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        for name, sizes in SIZES.items():
            setattr(self, name, nn.Linear(*sizes).bfloat16().requires_grad_(False))

    def forward(self, x):
        return self.second(self.first(x))


@pytest.fixture(params=range(2))
def measured(request, tmp_path):
    """A seed, and the file of what INC measured."""
    from neural_compressor.torch.quantization import FP8Config, finalize_calibration, prepare

    config = FP8Config(fp8_config="E4M3", mode="MEASURE", use_qdq=True, dump_stats_path=str(tmp_path / "inc"))
    model = prepare(Two(request.param), config)
    for x in drawn(request.param):
        model(x)
    finalize_calibration(model)
    return request.param, tmp_path / "inc"


def drawn(seed):
    return torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(seed)).bfloat16().unbind()


def test_its_measurements_are_read(measured):
    seed, stats = measured
    model, found = Two(seed), read(Path(f"{stats}_hooks_maxabs.json"))
    assert set(found) == set(SIZES)
    assert found["first"].input == max(x.abs().max().item() for x in drawn(seed))
    assert found["second"].weight == model.second.weight.abs().max().item()


@pytest.mark.parametrize("method", METHODS)
def test_its_products_are_ours(measured, method):
    from neural_compressor.torch.quantization import FP8Config, convert

    seed, stats = measured
    config = FP8Config(
        fp8_config="E4M3", mode="QUANTIZE", use_qdq=True, scale_method=method, dump_stats_path=str(stats)
    )
    theirs, plain = convert(Two(seed), config), Two(seed)
    ours = QuantConfig(scale_method=method, dump_stats_path=str(stats))
    op = Float8Linear(Float8Settings(ours, GAUDI3, read(ours.measurements)), TorchProducts())
    for name in SIZES:
        layer = getattr(plain, name)
        packed = op.pack(Encoded(Encoding("float", 16), layer.weight.clone(), layer.bias, layer=name))
        x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(seed + 7)).bfloat16()
        wanted = getattr(theirs, name)(x).float()
        assert float(packed.x_scale) == pytest.approx(float(getattr(theirs, name).quant_input.scale), rel=2**-7)
        assert (op.apply(x, packed).float() - wanted).norm() / wanted.norm() < METHODS[method]
