"""Plain weights that are rounded to int8 on the way in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from format_checks import CAPABILITIES, assert_stands_for, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tensors import rounded_to_int8

from jackfield_quantization import panels
from jackfield_quantization.int8 import GroupedInt8, Int8


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 3),
    is_grouped=st.booleans(),
    out_size=st.integers(1, 50),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    panel=st.sampled_from([1, 1000, 2**22]),
    seed=st.integers(0, 2**32 - 1),
)
def test_weights_are_rounded_to_the_nearest_step(
    groups: int, is_grouped: bool, out_size: int, dtype: str, panel: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    in_size = groups * 128 if is_grouped else groups * 37
    sizes = rng.uniform(0, 3, (out_size, 1))
    weight = torch.from_numpy(rng.standard_normal((out_size, in_size)) * sizes).to(getattr(torch, dtype))
    wanted = rounded_to_int8(weight.float().numpy(), 128 if is_grouped else in_size)
    layer = spec(in_size, out_size, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panels, "PANEL_NUMBERS", panel)
        encoded = (GroupedInt8() if is_grouped else Int8()).encode({"weight": weight}, layer)
    assert (encoded.data.dtype, encoded.data.shape) == (torch.int8, (out_size, in_size))
    assert_stands_for(encoded, wanted, layer)
    error, step = np.abs(wanted - weight.double().numpy()), encoded.scale.double().max().item()
    assert error.max() <= step * 0.5001


def test_a_row_of_zeros_stays_zero() -> None:
    weight = torch.zeros(2, 8)
    weight[1, 3] = 2
    encoded = Int8().encode({"weight": weight.clone(), "bias": torch.ones(2)}, spec(8, 2, bias=True))
    assert_stands_for(encoded, weight.double().numpy(), spec(8, 2))


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_weights_that_are_no_numbers_are_an_error(bad: float) -> None:
    weight = torch.ones(3, 8)
    weight[2, 5] = bad
    with pytest.raises(ValueError, match=r"block\.layer: weights that are infinite or no numbers"):
        Int8().encode({"weight": weight}, spec(8, 3))


@given(in_size=st.integers(1, 600))
def test_a_group_that_does_not_divide_is_refused_and_no_other(in_size: int) -> None:
    reason = GroupedInt8().rejects(spec(in_size, 8), CAPABILITIES)
    assert reason == (f"in_size {in_size} is no multiple of the group of 128" if in_size % 128 else None)
    assert Int8().rejects(spec(in_size, 8), CAPABILITIES) is None


def test_the_vocabulary_stays_plain() -> None:
    assert not Int8().covers("lm_head")
    assert not GroupedInt8().covers("model.embed_tokens")
    assert Int8().covers("model.layers.0.mlp.up_proj")
