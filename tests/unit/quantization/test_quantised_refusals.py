"""Quantised checkpoints that do not fit are refused before anything is read, with the tensor or field at fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_tensors import Exact, Tensors, block_fp8, gptq, gptq_groups
from small_checkpoints import engine_of, plain_linear, tensors_of, write

from jackfield.config.json_fields import ConfigError
from jackfield.loader.checkpoint import LoadError
from jackfield_platforms.refusal import Refused

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
Q, K = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj"


def gptq_linear(rng: np.random.Generator, name: str, out_size: int, in_size: int) -> tuple[Tensors, Exact]:
    return gptq(rng, out_size, gptq_groups(np.random.default_rng(in_size), in_size, 32, True), 4)


def fp8_linear(rng: np.random.Generator, name: str, out_size: int, in_size: int) -> tuple[Tensors, Exact]:
    return block_fp8(rng, out_size, in_size)


@pytest.fixture
def gptq_tensors() -> Tensors:
    return tensors_of(gptq_linear)[0]


@pytest.fixture
def fp8_tensors() -> Tensors:
    return tensors_of(fp8_linear)[0]


@pytest.fixture
def misfits(tmp_path: Path) -> Callable[[Tensors, dict[str, Any]], str]:
    """`misfits(tensors, quantization)` gives the message with which loading fails."""

    def message(tensors: Tensors, quantization: dict[str, Any]) -> str:
        with pytest.raises(LoadError) as caught:
            engine_of(write(tmp_path, tensors, quantization))
        return str(caught.value)

    return message


Misfits = Callable[[Tensors, dict[str, Any]], str]


def test_wrong_shapes_dtypes_missing_and_surplus_tensors_are_named_at_once(
    gptq_tensors: Tensors, misfits: Misfits
) -> None:
    del gptq_tensors[f"{K}.qzeros"]
    gptq_tensors[f"{Q}.qweight"] = gptq_tensors[f"{Q}.qweight"].long()
    gptq_tensors[f"{Q}.scales"] = gptq_tensors[f"{Q}.scales"][:, :-1]
    gptq_tensors[f"{Q}.weight"] = torch.ones(128, 128)
    message = misfits(gptq_tensors, GPTQ)
    assert f"missing: {K}.qzeros" in message
    assert f"not part of the model: {Q}.weight" in message
    assert f"{Q}.qweight: wanted int32, found I64 in model.safetensors" in message
    assert f"{Q}.scales: wanted shape [4, 128], found [4, 127] in model.safetensors" in message
    assert message.count("\n") == 4


def test_an_order_that_differs_among_fused_parts_is_named(gptq_tensors: Tensors, misfits: Misfits) -> None:
    gptq_tensors[f"{K}.g_idx"] = gptq_tensors[f"{K}.g_idx"].flip(0).contiguous()
    wanted = f"{K}.g_idx must equal {K.replace('k_proj', 'q_proj')}.g_idx, with which it is held as one, and does not"
    assert wanted in misfits(gptq_tensors, GPTQ)


def test_an_order_may_be_absent_only_where_inputs_are_in_order(gptq_tensors: Tensors, misfits: Misfits) -> None:
    none = {name: tensor for name, tensor in gptq_tensors.items() if not name.endswith("g_idx")}
    assert f"missing: {Q}.g_idx" in misfits(none, GPTQ)
    some = {name: tensor for name, tensor in gptq_tensors.items() if name != f"{K}.g_idx"}
    assert f"missing: {K}.g_idx" in misfits(some, {**GPTQ, "desc_act": False})


def test_without_an_order_a_checkpoint_loads(tmp_path: Path) -> None:
    def encode(rng: np.random.Generator, name: str, out_size: int, in_size: int) -> tuple[Tensors, Exact]:
        return gptq(rng, out_size, gptq_groups(rng, in_size, 32, False), 4)

    tensors = {name: tensor for name, tensor in tensors_of(encode)[0].items() if not name.endswith("g_idx")}
    assert engine_of(write(tmp_path, tensors, {**GPTQ, "desc_act": False}))


def test_plain_weights_under_a_quantised_config_are_named(misfits: Misfits) -> None:
    message = misfits(tensors_of(plain_linear)[0], GPTQ)
    assert "missing: model.layers.0.self_attn.q_proj.qweight" in message
    message = misfits(tensors_of(plain_linear)[0], FP8)
    assert f"{Q}.weight: wanted float8_e4m3fn, found F32" in message


def test_float8_weights_under_a_plain_config_are_named(fp8_tensors: Tensors, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"q_proj\.weight: wanted plain floats, found F8_E4M3 in"):
        engine_of(write(tmp_path, fp8_tensors))


def test_scales_of_unaligned_parts_must_be_stored_part_by_part(fp8_tensors: Tensors, misfits: Misfits) -> None:
    attention = "model.layers.0.self_attn"
    for param in ("weight", "weight_scale_inv"):
        parts = [fp8_tensors.pop(f"{attention}.{part}_proj.{param}").view(torch.uint8) for part in "qkv"]
        dtype = torch.float32 if param == "weight_scale_inv" else torch.float8_e4m3fn
        fp8_tensors[f"{attention}.qkv_proj.{param}"] = torch.cat(parts).view(dtype)
    message = misfits(fp8_tensors, FP8)
    assert f"not part of the model: {attention}.qkv_proj.weight_scale_inv" in message
    assert f"missing: {attention}.q_proj.weight_scale_inv" in message


def test_parts_of_one_product_in_two_formats_are_refused(fp8_tensors: Tensors, tmp_path: Path) -> None:
    folder = write(tmp_path, fp8_tensors, {**FP8, "modules_to_not_convert": [K]})
    wanted = r"qkv_proj is one product .* holds .*q_proj in 'fp8', .*k_proj in 'unquantized', .*v_proj in 'fp8'"
    with pytest.raises(Refused, match=wanted):
        engine_of(folder)


def test_a_group_that_does_not_divide_is_refused(gptq_tensors: Tensors, tmp_path: Path) -> None:
    wanted = r"'gptq' cannot serve model\.layers\.0\.self_attn\.qkv_proj: in_size 128 is no multiple of the group of 48"
    with pytest.raises(Refused, match=wanted):
        engine_of(write(tmp_path, gptq_tensors, {**GPTQ, "group_size": 48}))


@pytest.mark.parametrize(
    ("quantization", "options", "reason"),
    [
        (
            {"quant_method": "bitsandbytes"},
            {},
            r"asks for the weight format 'bitsandbytes'; there are awq, compressed-tensors, fp8, gptq, int4, int4-",
        ),
        ({**GPTQ, "bits": 3}, {}, r"config\.json: field 'quantization_config' \(gptq\): bits is 3; supported: 4, 8"),
        ({"bits": 4}, {}, r"quantization_config: field 'quant_method' is missing"),
        (GPTQ, {"quantization": "int8"}, "'int8' was asked for; the checkpoint's weights are 'gptq' already"),
        (None, {"quantization": "gptq"}, "'gptq' needs a checkpoint in that format, and this one is plain; plain "),
        (None, {"quantization": "int9"}, "'int9' is no weight format here; plain weights can be loaded as int4, int4-"),
        (GPTQ, {"load_format": "dummy"}, r"makes plain weights; .*qkv_proj\.qweight is int32, as the config's"),
    ],
)
def test_a_format_that_cannot_be_had_is_refused(
    tmp_path: Path, quantization: dict[str, Any] | None, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        engine_of(write(tmp_path, tensors_of(plain_linear)[0], quantization), **options)
