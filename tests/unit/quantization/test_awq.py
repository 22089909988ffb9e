"""AWQ layers as AutoAWQ packs them, against the numbers that were packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from format_checks import CAPABILITIES, assert_stands_for, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tensors import awq

from jackfield_platforms.linear import QuantMethod
from jackfield_quantization.awq import Awq


def method(**config: Any) -> QuantMethod:
    return Awq.from_config({"bits": 4, "group_size": 32, "zero_point": True, "version": "gemm", **config})


@settings(max_examples=60, deadline=None)
@given(
    group=st.sampled_from([2, 8, 24, 128]),
    num_groups=st.integers(1, 4),
    out_words=st.lists(st.integers(1, 150), min_size=1, max_size=3),
    middle=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_layer_stands_for_the_numbers_that_were_packed(
    group: int, num_groups: int, out_words: list[int], middle: bool, seed: int
) -> None:
    sizes = [8 * count for count in out_words]
    layer, format = spec(group * num_groups, *sizes), method(group_size=group)
    tensors, exact = awq(np.random.default_rng(seed), sum(sizes), layer.in_size, group, middle=middle)
    assert format.rejects(layer, CAPABILITIES) is None
    wanted = format.params(layer)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: param.shape for name, param in wanted.items() if name != "bias"
    }
    assert wanted["qweight"].out_sizes == wanted["qzeros"].out_sizes == tuple(out_words)
    encoded = format.encode(tensors, layer)
    assert not tensors, "the tensors are consumed"
    assert (encoded.zero is None) == middle
    assert encoded.encoding.zero == (encoded.zero is not None)
    assert encoded.data.is_contiguous()
    assert_stands_for(encoded, exact, layer)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_products_are_in_the_activations_dtype(dtype: str) -> None:
    layer = spec(64, 24, 8, dtype=dtype, bias=True)
    tensors, exact = awq(np.random.default_rng(2), 32, 64, 32)
    tensors["bias"] = torch.randn(32).to(getattr(torch, dtype))
    encoded = method().encode(tensors, layer)
    assert encoded.encoding.describe() == "4-bit int in groups of 32 with zero points"
    assert_stands_for(encoded, exact, layer)


def test_a_group_of_minus_one_is_a_whole_row() -> None:
    tensors, exact = awq(np.random.default_rng(3), 16, 40, 40)
    encoded = method(group_size=-1).encode(tensors, spec(40, 16))
    assert encoded.encoding.group is None
    assert_stands_for(encoded, exact, spec(40, 16))


def test_a_stored_bias_of_zeros_is_dropped_and_any_other_is_an_error() -> None:
    tensors, _ = awq(np.random.default_rng(5), 16, 64, 32)
    assert method().encode({**tensors, "bias": torch.zeros(16)}, spec(64, 16)).bias is None
    with pytest.raises(ValueError, match=r"block\.layer: the checkpoint holds a bias that is not zero"):
        method().encode({**tensors, "bias": torch.ones(16)}, spec(64, 16))


def test_scales_that_are_no_numbers_are_an_error() -> None:
    tensors, _ = awq(np.random.default_rng(7), 16, 64, 32)
    tensors["scales"][0, 3] = float("nan")
    with pytest.raises(ValueError, match=r"block\.layer: scales are infinite"):
        method().encode(tensors, spec(64, 16))


@pytest.mark.parametrize(
    ("in_size", "out_size", "group", "reason"),
    [
        (64, 16, 48, "in_size 64 is no multiple of the group of 48"),
        (15, 16, 5, "in_size 15 is odd"),
        (64, 12, 32, "output size 12 is no multiple of the 8 numbers in a word"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(in_size: int, out_size: int, group: int, reason: str) -> None:
    told = method(group_size=group).rejects(spec(in_size, out_size), CAPABILITIES)
    assert told is not None
    assert reason in told


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"bits": 8}, "bits is 8; supported: 4"),
        ({"bits": "four"}, r"Expected `int`, got `str` - at `\$\.bits`"),
        ({"zero_point": False}, "zero_point is False; supported: True"),
        ({"version": "gemv"}, "version is 'gemv'; supported: gemm"),
        ({"group_size": 0}, "group_size is 0; wanted -1"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        method(**config)


def test_what_is_encoded_is_chosen_by_name() -> None:
    chosen = method(modules_to_not_convert=["visual", "mlp.gate"], version="GEMM")
    assert chosen.covers("model.layers.0.mlp.gate_proj")
    assert not chosen.covers("model.layers.0.mlp.gate")
    assert not chosen.covers("lm_head")
    assert method(modules_to_not_convert=None).covers("model.layers.0.mlp.gate")
