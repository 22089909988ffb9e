"""Weights of 8 bits with a scale a row or a tensor, against the numbers that their bytes stand for."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from format_checks import CAPABILITIES, assert_stands_for, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tensors import row_scaled

from jackfield_quantization.row_scaled import RowScaled

Dtype = Literal["float8_e4m3fn", "int8"]


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["float8_e4m3fn", "int8"]),
    by_rows=st.booleans(),
    in_size=st.integers(1, 70),
    out_sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    is_static=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_of_any_size_are_fused_without_changing_a_number(
    dtype: Dtype, by_rows: bool, in_size: int, out_sizes: list[int], is_static: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = [row_scaled(rng, size, in_size, dtype, by_rows) for size in out_sizes]
    tensors = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
    if is_static:
        tensors["input_scale"] = torch.rand(len(out_sizes))
    format, layer = RowScaled(dtype, by_rows), spec(in_size, *out_sizes)
    assert format.rejects(layer, CAPABILITIES) is None
    wanted = format.params(layer)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: param.shape for name, param in wanted.items() if name in tensors
    }
    assert {name for name, param in wanted.items() if not param.optional} == {"weight", "weight_scale"}
    encoded = format.encode(tensors, layer)
    assert not tensors, "the tensors are consumed"
    assert encoded.encoding == format.encoding(layer)
    assert_stands_for(encoded, np.concatenate([exact for _, exact in parts]), layer)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_products_are_in_the_activations_dtype(dtype: str) -> None:
    layer = spec(200, 256, 130, dtype=dtype, bias=True)
    tensors, exact = row_scaled(np.random.default_rng(1), 386, 200, "int8", True)
    tensors["bias"] = torch.randn(386).to(getattr(torch, dtype))
    encoded = RowScaled("int8", by_rows=True).encode(tensors, layer)
    assert encoded.encoding.describe() == "8-bit int in rows"
    assert_stands_for(encoded, exact, layer)


def test_a_stored_bias_that_is_not_zero_is_an_error() -> None:
    tensors, _ = row_scaled(np.random.default_rng(3), 8, 8, "int8", True)
    with pytest.raises(ValueError, match=r"block\.layer: the checkpoint holds a bias that is not zero"):
        RowScaled("int8", by_rows=True).encode({**tensors, "bias": torch.ones(8)}, spec(8, 8))


def test_scales_that_are_no_numbers_are_an_error() -> None:
    tensors, _ = row_scaled(np.random.default_rng(2), 8, 8, "float8_e4m3fn", False)
    tensors["weight_scale"].fill_(float("inf"))
    with pytest.raises(ValueError, match=r"block\.layer: weight_scale holds"):
        RowScaled("float8_e4m3fn", by_rows=False).encode(tensors, spec(8, 8))


def test_what_is_encoded_is_chosen_by_name() -> None:
    chosen = RowScaled("int8", by_rows=True, ignored=("model.layers.1",))
    assert chosen.covers("model.layers.0.mlp.gate_proj")
    assert not chosen.covers("model.layers.1.mlp.gate_proj")
    assert not chosen.covers("lm_head")
