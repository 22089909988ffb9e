"""Scales of 8-bit floats: from the largest number, by each method."""

from __future__ import annotations

import math

import pytest
import torch

from jackfield_hpu.float8.scales import METHODS, scale_method, scale_of
from jackfield_hpu.generation import GAUDI2, GAUDI3


def scale(largest, rounding, device=GAUDI3, backoff=0.5):
    return scale_of(torch.tensor(float(largest)), rounding, backoff, device).item()


def test_the_largest_number_becomes_a_share_of_the_range():
    assert scale(112, "none") == 0.5
    assert scale(60, "none", GAUDI2) == 0.5
    assert scale(112, "none", backoff=0.25) == 1.0


@pytest.mark.parametrize("device", [GAUDI2, GAUDI3], ids=lambda device: device.name)
@pytest.mark.parametrize("seed", range(3))
def test_rounding_never_scales_the_largest_number_out_of_its_share(device, seed):
    largest = torch.exp2(torch.rand(200, generator=torch.Generator().manual_seed(seed)) * 16 - 8)
    exact = largest / (device.most * 0.5)
    for rounding in ("pow2", "hw"):
        found = scale_of(largest, rounding, 0.5, device)
        assert (torch.log2(found) == torch.log2(found).round()).all()
        within = found < 2.0**device.highest
        assert (found >= exact * (1 - 1e-6))[within].all()
    assert (scale_of(largest, "pow2", 0.5, device) < 2.0001 * exact).all()


def test_free_scales_are_four_on_gaudi_2_and_powers_of_two_on_gaudi_3():
    largest = torch.exp2(torch.arange(-40.0, 20.0))
    assert set(scale_of(largest, "hw", 1.0, GAUDI2).tolist()) == {2.0**-8, 2.0**-4, 1.0, 2.0**4}
    many = scale_of(largest, "hw", 1.0, GAUDI3)
    assert math.log2(many.max().item()) == 7
    assert len(set(many.tolist())) > 40


def test_a_row_of_zeros_has_a_scale():
    for rounding in ("none", "pow2", "hw"):
        assert 0 < scale(0, rounding) < 1e-10
    assert scale(0, "one") == 1


def test_methods_go_with_static_or_dynamic_scales():
    assert scale_method("maxabs_hw", dynamic=False) is METHODS["maxabs_hw"]
    with pytest.raises(ValueError, match="'maxabs_hw' is for dynamic_quantization false, and it is true"):
        scale_method("maxabs_hw", dynamic=True)
    with pytest.raises(ValueError, match="'maxabs_hw_opt_weight' is none of unit_scale, maxabs_arbitrary"):
        scale_method("maxabs_hw_opt_weight", dynamic=False)
