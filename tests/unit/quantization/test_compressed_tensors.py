"""compressed-tensors: which way of storing a config means, and packed ints against the numbers that were packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from format_checks import CAPABILITIES, assert_stands_for, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tensors import block_fp8, gptq_groups, packed_ints, row_scaled

from jackfield_quantization.compressed_tensors import CompressedTensors
from jackfield_quantization.packed_ints import PackedInts

FLOAT8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True, "dynamic": False}


def config(format: str, weights: dict[str, Any] | None, scheme: dict[str, Any] | None = None, **fields: Any) -> Any:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, **(scheme or {})}
    return {
        "quant_method": "compressed-tensors",
        "format": format,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
        **fields,
    }


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([8, 24, 32, 128]),
    num_groups=st.integers(1, 4),
    out_words=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    is_shuffled=st.booleans(),
    symmetric=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_packed_ints_stand_for_the_numbers_that_were_packed(
    bits: int, group: int, num_groups: int, out_words: list[int], is_shuffled: bool, symmetric: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sizes = [count * 32 // bits for count in out_words]
    groups = gptq_groups(rng, group * num_groups, group, is_shuffled)
    parts = [packed_ints(rng, size, groups, bits, symmetric=symmetric) for size in sizes]
    tensors = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
    tensors["weight_g_idx"] = parts[0][0]["weight_g_idx"]
    tensors["weight_scale"] = tensors["weight_scale"].float()
    if not is_shuffled:
        del tensors["weight_g_idx"]
    weights = {**INT4, "num_bits": bits, "group_size": group, "symmetric": symmetric}
    format = CompressedTensors.from_config(
        config("pack-quantized", {**weights, "actorder": "group" if is_shuffled else None})
    )
    layer = spec(group * num_groups, *sizes)
    assert format.rejects(layer, CAPABILITIES) is None
    wanted = format.params(layer)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: param.shape for name, param in wanted.items() if name != "bias"
    }
    encoded = format.encode(tensors, layer)
    assert not tensors, "the tensors are consumed"
    assert (encoded.encoding.zero, encoded.encoding.ordered) == (encoded.zero is not None, encoded.order is not None)
    assert not (symmetric and encoded.encoding.zero)
    assert_stands_for(encoded, np.concatenate([exact for _, exact in parts]), layer)


def test_a_scale_a_row_needs_no_group() -> None:
    tensors, exact = packed_ints(np.random.default_rng(1), 16, np.zeros(40, dtype=int), 4, symmetric=True)
    del tensors["weight_g_idx"]
    weights = {**INT4, "strategy": "channel", "group_size": None}
    format = CompressedTensors.from_config(config("pack-quantized", weights))
    encoded = format.encode({**tensors, "weight_scale": tensors["weight_scale"].float()}, spec(40, 16))
    assert encoded.encoding.group is None
    assert_stands_for(encoded, exact, spec(40, 16))


@pytest.mark.parametrize("strategy", ["channel", "tensor"])
@pytest.mark.parametrize("format", ["float-quantized", "int-quantized", "naive-quantized"])
def test_bytes_are_floats_or_ints_as_the_config_says(format: str, strategy: str) -> None:
    dtype, kind = ("int8", "int") if format == "int-quantized" else ("float8_e4m3fn", "float")
    tensors, exact = row_scaled(np.random.default_rng(2), 24, 16, dtype, strategy == "channel")
    method = CompressedTensors.from_config(config(format, {**FLOAT8, "type": kind, "strategy": strategy}))
    assert_stands_for(method.encode(tensors, spec(16, 24)), exact, spec(16, 24))


def test_blocks_of_floats_have_scales_of_another_name() -> None:
    tensors, exact = block_fp8(np.random.default_rng(3), 40, 24, (16, 8))
    tensors["weight_scale"] = tensors.pop("weight_scale_inv")
    weights = {**FLOAT8, "strategy": "block", "block_structure": [16, 8]}
    method = CompressedTensors.from_config(config("float-quantized", weights))
    assert set(method.params(spec(24, 40))) == {"weight", "weight_scale"}
    assert_stands_for(method.encode(tensors, spec(24, 40)), exact, spec(24, 40))


def test_the_strategy_follows_from_the_group_where_none_is_given() -> None:
    for size, wanted in ((-1, PackedInts(4, None, False, False)), (64, PackedInts(4, 64, False, False))):
        weights = {"num_bits": 4, "group_size": size}
        method = CompressedTensors.from_config(config("pack-quantized", weights))
        assert isinstance(method, CompressedTensors)
        assert method.stored == wanted


def test_a_group_may_name_its_own_format() -> None:
    scheme = {"format": "pack-quantized"}
    method = CompressedTensors.from_config(config("mixed-precision", INT4, scheme))
    assert isinstance(method, CompressedTensors)
    assert isinstance(method.stored, PackedInts)


def test_layers_are_chosen_by_name_and_pattern() -> None:
    method = CompressedTensors.from_config(
        config("pack-quantized", INT4, ignore=["lm_head", "re:.*mlp\\.gate$", "model.layers.1.mlp.up_proj"])
    )
    assert method.covers("model.layers.0.mlp.gate_proj")
    assert not method.covers("model.layers.0.mlp.gate")
    assert not method.covers("model.layers.1.mlp.up_proj")
    assert method.covers("model.layers.11.mlp.up_proj")
    assert not method.covers("lm_head")
    assert not method.covers("model.embed_tokens")
    named = config("pack-quantized", INT4, {"targets": ["re:.*self_attn.*", "model.layers.0.mlp.down_proj"]}, ignore=[])
    chosen = CompressedTensors.from_config(named)
    assert chosen.covers("model.layers.0.self_attn.q_proj")
    assert chosen.covers("model.layers.0.mlp.down_proj")
    assert not chosen.covers("model.layers.0.mlp.up_proj")
    assert not chosen.covers("lm_head")
    assert CompressedTensors.from_config(config("pack-quantized", INT4, ignore=None)).covers("lm_head")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (config("pack-quantized", INT4, config_groups={}), "config_groups has 0 groups; supported: one"),
        (config("pack-quantized", None), r"config_groups\.group_0\.weights are not quantised in the checkpoint"),
        (config("pack-quantized", {**INT4, "group_size": None}), r"weights\.group_size is None; wanted a positive"),
        (config("pack-quantized", {**INT4, "num_bits": 3}), "are 3-bit int by group, symmetric, in the format 'pack-"),
        (config("nvfp4-pack-quantized", INT4), "in the format 'nvfp4-pack-quantized'; supported: pack-quantized"),
        (config("int-quantized", {**INT4, "num_bits": 8, "strategy": "channel", "symmetric": False}), "not symmetric"),
        (config("float-quantized", {**FLOAT8, "strategy": "block"}), "are 8-bit float by block"),
        (config("pack-quantized", INT4, quantization_status="frozen"), "quantization_status is 'frozen'"),
        (config("pack-quantized", INT4, kv_cache_scheme={"num_bits": 8}), "kv_cache_scheme is set, which is not"),
        (config("pack-quantized", INT4, sparsity_config={"format": "sparse-24"}), "sparsity_config.format is 'sparse"),
        (config("pack-quantized", INT4, {"output_activations": {"num_bits": 8}}), "group_0.output_activations is set"),
        (config("pack-quantized", INT4, ignore=["re:("]), r"'re:\(' is no regular expression: missing \)"),
        (config("pack-quantized", {**INT4, "num_bits": "4"}), r"Expected `int`, got `str`"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused(found: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CompressedTensors.from_config(found)


@pytest.mark.parametrize(
    ("in_size", "out_size", "reason"),
    [
        (48, 16, "in_size 48 is no multiple of the group of 32"),
        (32, 12, "output size 12 is no multiple of the 8 zero points in a word"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(in_size: int, out_size: int, reason: str) -> None:
    format = CompressedTensors.from_config(config("pack-quantized", {**INT4, "symmetric": False}))
    told = format.rejects(spec(in_size, out_size), CAPABILITIES)
    assert told is not None
    assert reason in told


def test_scales_that_are_no_numbers_are_an_error() -> None:
    tensors, _ = packed_ints(np.random.default_rng(4), 8, np.zeros(32, dtype=int), 4, symmetric=True)
    tensors["weight_scale"] = torch.full((8, 1), float("nan"))
    with pytest.raises(ValueError, match=r"block\.layer: weight_scale holds"):
        PackedInts(4, 32, False, False).encode(tensors, spec(32, 8))
