"""GPTQ layers as AutoGPTQ packs them, against the numbers that were packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from format_checks import CAPABILITIES, assert_stands_for, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tensors import gptq, gptq_groups

from jackfield_platforms.linear import QuantMethod
from jackfield_quantization.gptq import Gptq


def method(**config: Any) -> QuantMethod:
    return Gptq.from_config({"bits": 4, "group_size": 32, "desc_act": False, "sym": True, **config})


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([8, 24, 32, 128]),
    num_groups=st.integers(1, 4),
    out_words=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    is_shuffled=st.booleans(),
    symmetric=st.booleans(),
    version=st.sampled_from([("gptq", 1), ("gptq_v2", 0)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_layer_stands_for_the_numbers_that_were_packed(
    bits: int,
    group: int,
    num_groups: int,
    out_words: list[int],
    is_shuffled: bool,
    symmetric: bool,
    version: tuple[str, int],
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    sizes = [count * 32 // bits for count in out_words]
    groups = gptq_groups(rng, group * num_groups, group, is_shuffled)
    tensors, exact = gptq(rng, sum(sizes), groups, bits, symmetric=symmetric, offset=version[1])
    format = method(bits=bits, group_size=group, desc_act=is_shuffled, checkpoint_format=version[0])
    layer = spec(group * num_groups, *sizes)
    assert format.rejects(layer, CAPABILITIES) is None
    wanted = format.params(layer)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: param.shape for name, param in wanted.items() if name != "bias"
    }
    encoded = format.encode(dict(tensors), layer)
    assert encoded.encoding.zero == (encoded.zero is not None)
    assert not (symmetric and encoded.encoding.zero)
    assert encoded.encoding.ordered == (encoded.order is not None)
    assert_stands_for(encoded, exact, layer)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_stored_zero_point_of_all_ones_is_one_more_than_fits(bits: int) -> None:
    rng = np.random.default_rng(1)
    tensors, exact = gptq(rng, 32, gptq_groups(rng, 64, 32, False), bits, symmetric=True)
    tensors["qzeros"].fill_(-1)  # the zero point moves from 2 ** (bits - 1) to 2 ** bits
    exact -= 2 ** (bits - 1) * np.repeat(tensors["scales"].double().numpy().T, 32, axis=1)
    assert_stands_for(method(bits=bits).encode(tensors, spec(64, 32)), exact, spec(64, 32))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_products_are_in_the_activations_dtype(dtype: str) -> None:
    rng, layer = np.random.default_rng(2), spec(64, 24, 8, dtype=dtype, bias=True)
    tensors, exact = gptq(rng, 32, gptq_groups(rng, 64, 16, True), 4)
    tensors["bias"] = torch.randn(32).to(getattr(torch, dtype))
    encoded = method(group_size=16, desc_act=True).encode(tensors, layer)
    assert not tensors, "the tensors are consumed"
    assert encoded.encoding.describe() == "4-bit int in groups of 16 with zero points, inputs reordered"
    assert_stands_for(encoded, exact, layer)


def test_a_group_of_minus_one_is_a_whole_row() -> None:
    rng = np.random.default_rng(3)
    tensors, exact = gptq(rng, 16, np.zeros(40, dtype=int), 4)
    encoded = method(group_size=-1).encode(tensors, spec(40, 16))
    assert (encoded.encoding.group, encoded.order) == (None, None)
    assert_stands_for(encoded, exact, spec(40, 16))


def test_the_canonical_form_is_small() -> None:
    rng = np.random.default_rng(4)
    for bits, data in ((4, (16, 32)), (8, (16, 64))):
        tensors, _ = gptq(rng, 16, gptq_groups(rng, 64, 32, False), bits, symmetric=True)
        encoded = method(bits=bits).encode(tensors, spec(64, 16))
        assert encoded.data.shape == data
        assert encoded.data.dtype == (torch.uint8 if bits == 4 else torch.int8)
        assert encoded.data.is_contiguous()
        assert encoded.scale is not None
        assert encoded.scale.shape == (16, 2)


def test_a_stored_bias_of_zeros_is_dropped_and_any_other_is_an_error() -> None:
    rng = np.random.default_rng(5)
    tensors, _ = gptq(rng, 16, gptq_groups(rng, 64, 32, False), 4)
    assert method().encode({**tensors, "bias": torch.zeros(16)}, spec(64, 16)).bias is None
    with pytest.raises(ValueError, match=r"block\.layer: the checkpoint holds a bias that is not zero"):
        method().encode({**tensors, "bias": torch.ones(16)}, spec(64, 16))


def test_groups_of_unequal_size_are_an_error() -> None:
    rng = np.random.default_rng(6)
    tensors, _ = gptq(rng, 16, gptq_groups(rng, 64, 32, True), 4)
    tensors["g_idx"][:] = torch.tensor([0] * 33 + [1] * 31)
    with pytest.raises(ValueError, match=r"block\.layer: g_idx must give each of 2 groups 32 inputs"):
        method().encode(tensors, spec(64, 16))


def test_scales_that_are_no_numbers_are_an_error() -> None:
    rng = np.random.default_rng(7)
    tensors, _ = gptq(rng, 16, gptq_groups(rng, 64, 32, False), 4)
    tensors["scales"][0, 3] = float("inf")
    with pytest.raises(ValueError, match=r"block\.layer: scales are infinite"):
        method().encode(tensors, spec(64, 16))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"bits": 3}, "bits is 3; supported: 4, 8"),
        ({"bits": "four"}, r"Expected `int`, got `str` - at `\$\.bits`"),
        ({"bits": None}, "missing required field `bits`"),
        ({"group_size": 0}, "group_size is 0; wanted -1"),
        ({"checkpoint_format": "awq"}, "checkpoint_format is 'awq'; supported: gptq, gptq_v2"),
        ({"is_marlin_format": True}, "checkpoint_format is 'marlin'"),
        ({"dynamic": {"-:.*gate.*": {}}}, "dynamic sets modules apart"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        method(**config)


@given(in_size=st.integers(1, 300), group=st.sampled_from([16, 32, 128]))
def test_a_group_that_does_not_divide_is_refused_and_no_other(in_size: int, group: int) -> None:
    reason = method(group_size=group).rejects(spec(in_size, 8), CAPABILITIES)
    assert reason == (f"in_size {in_size} is no multiple of the group of {group}" if in_size % group else None)


def test_sizes_that_do_not_fill_words_are_refused() -> None:
    assert "in_size 36 is no multiple of the 8" in str(method(group_size=-1).rejects(spec(36, 8), CAPABILITIES))
    assert "output size 12 is no multiple of the 8" in str(method().rejects(spec(32, 8, 12), CAPABILITIES))
    assert "dtype float64" in str(method().rejects(spec(32, 8, dtype="float64"), CAPABILITIES))


def test_what_is_encoded_is_chosen_by_name() -> None:
    layer = "model.layers.0.self_attn.q_proj"
    assert method().covers(layer)
    assert not method().covers("lm_head")
    assert method(lm_head=True).covers("lm_head")
    assert not method(lm_head=True).covers("model.embed_tokens")
    only = method(modules_in_block_to_quantize=[["self_attn.k_proj"], ["mlp.up_proj", "mlp.gate_proj"]])
    assert not only.covers(layer)
    assert only.covers("model.layers.3.mlp.gate_proj")
    assert not method(modules_to_not_convert=["self_attn"]).covers(layer)
    assert method(modules_to_not_convert=["self", "q", "layers.00"]).covers(layer)
