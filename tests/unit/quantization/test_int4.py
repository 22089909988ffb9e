"""Plain weights that are rounded to int4 on the way in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from format_checks import CAPABILITIES, assert_stands_for, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tensors import rounded_to_int4

from jackfield_platforms.linear import LinearSpec
from jackfield_quantization import panels
from jackfield_quantization.int4 import Int4, WholeInt4
from jackfield_quantization.int8 import WholeInt8


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 5),
    out_size=st.integers(1, 50),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    panel=st.sampled_from([1, 1000, 2**22]),
    seed=st.integers(0, 2**32 - 1),
)
def test_weights_are_rounded_to_the_nearest_of_sixteen(
    groups: int, out_size: int, dtype: str, panel: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0, 3, (out_size, 1))
    weight = torch.from_numpy(rng.standard_normal((out_size, groups * 32)) * sizes).to(getattr(torch, dtype))
    wanted = rounded_to_int4(weight.float().numpy())
    layer = spec(groups * 32, out_size, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "PANEL_NUMBERS", panel)
        encoded = Int4().encode({"weight": weight}, layer)
    assert (encoded.data.dtype, encoded.data.shape) == (torch.uint8, (out_size, groups * 16))
    assert encoded.encoding == Int4().encoding(layer)
    assert_stands_for(encoded, wanted, layer)
    assert encoded.scale is not None
    step = encoded.scale.double().abs().repeat_interleave(32, dim=1).numpy()
    error = np.abs(wanted - weight.double().numpy())
    assert (error <= step * 1.01 + 1e-7).all(), "at most a step, where a number lies opposite to the farthest"


def test_of_sixteen_numbers_all_are_used() -> None:
    weight = torch.arange(-8.0, 8).repeat(2)[None]
    encoded = Int4().encode({"weight": weight.clone()}, spec(32, 1))
    assert_stands_for(encoded, weight.double().numpy(), spec(32, 1))


def test_a_group_of_zeros_stays_zero() -> None:
    weight = torch.zeros(2, 64)
    weight[1, 3] = 2
    encoded = Int4().encode({"weight": weight.clone(), "bias": torch.ones(2)}, spec(64, 2, bias=True))
    assert_stands_for(encoded, weight.double().numpy(), spec(64, 2))


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), 1e6])
def test_weights_that_cannot_be_scaled_are_an_error(bad: float) -> None:
    weight = torch.ones(3, 32)
    weight[2, 5] = bad
    with pytest.raises(ValueError, match=r"block\.layer: weights that float16 cannot scale"):
        Int4().encode({"weight": weight}, spec(32, 3))


@given(in_size=st.integers(1, 200))
def test_a_group_that_does_not_divide_is_refused(in_size: int) -> None:
    reason = Int4().rejects(spec(in_size, 8), CAPABILITIES)
    assert reason == (f"in_size {in_size} is no multiple of the group of 32" if in_size % 32 else None)


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
def test_the_vocabulary_stays_plain_or_becomes_int8(name: str) -> None:
    assert not Int4().covers(name)
    assert WholeInt4().covers(name)
    layer, weight = LinearSpec(name, 24, (8,), "float32", gathers=True), torch.randn(8, 24)
    assert WholeInt4().rejects(layer, CAPABILITIES) is None
    made, wanted = (method.encode({"weight": weight.clone()}, layer) for method in (WholeInt4(), WholeInt8()))
    assert made.encoding == wanted.encoding == WholeInt4().encoding(layer)
    assert torch.equal(made.data, wanted.data)
    assert WholeInt4().covers("model.layers.0.mlp.up_proj")
    assert WholeInt4().encoding(spec(32, 8)) == Int4().encoding(spec(32, 8))
