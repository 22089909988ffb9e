"""Block-wise float8 layers against the numbers that their bytes stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from format_checks import CAPABILITIES, assert_stands_for, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_tensors import block_fp8, e4m3

from jackfield_platforms.linear import QuantMethod
from jackfield_quantization.fp8 import BlockFp8
from jackfield_quantization.row_scaled import RowScaled


def method(**config: Any) -> QuantMethod:
    return BlockFp8.from_config({"fmt": "e4m3", "weight_block_size": [128, 128], **config})


@settings(max_examples=60, deadline=None)
@given(
    in_size=st.integers(1, 70),
    out_sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    block=st.tuples(st.sampled_from([1, 4, 6, 16]), st.sampled_from([1, 8, 16])),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_of_any_size_are_fused_without_changing_a_number(
    in_size: int, out_sizes: list[int], block: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = [block_fp8(rng, size, in_size, block) for size in out_sizes]
    tensors = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
    format, layer = method(weight_block_size=list(block)), spec(in_size, *out_sizes)
    assert format.rejects(layer, CAPABILITIES) is None
    wanted = format.params(layer)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: param.shape for name, param in wanted.items()
    }
    assert wanted["weight_scale_inv"].out_sizes == tuple(len(part["weight_scale_inv"]) for part, _ in parts)
    assert wanted["weight_scale_inv"].whole == all(size % block[0] == 0 for size in out_sizes[:-1])
    assert_stands_for(format.encode(tensors, layer), np.concatenate([exact for _, exact in parts]), layer)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_products_are_in_the_activations_dtype(dtype: str) -> None:
    layer = spec(200, 256, 130, dtype=dtype, bias=True)
    tensors, exact = block_fp8(np.random.default_rng(1), 386, 200)
    tensors["bias"] = torch.randn(386).to(getattr(torch, dtype))
    encoded = method().encode(tensors, layer)
    assert not tensors, "the tensors are consumed"
    assert encoded.encoding.describe() == "8-bit float in blocks of 128 x 128"
    assert encoded.data.dtype == torch.float8_e4m3fn
    assert_stands_for(encoded, exact, layer)


def test_every_byte_means_what_the_format_says() -> None:
    codes = torch.tensor([code for code in range(256) if code & 127 != 127], dtype=torch.uint8)
    tensors = {"weight": codes.view(torch.float8_e4m3fn)[None], "weight_scale_inv": torch.ones(1, 2)}
    layer = spec(254, 1)
    assert_stands_for(method().encode(tensors, layer), e4m3(codes.numpy())[None], layer)


def test_scales_that_are_no_numbers_are_an_error() -> None:
    tensors, _ = block_fp8(np.random.default_rng(2), 8, 8)
    tensors["weight_scale_inv"].fill_(float("nan"))
    with pytest.raises(ValueError, match=r"block\.layer: weight_scale_inv holds"):
        method().encode(tensors, spec(8, 8))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"weight_block_size": [128]}, r"at `\$\.weight_block_size`"),
        ({"weight_block_size": [0, 128]}, r"weight_block_size is \[0, 128\]; wanted two positive"),
        ({"fmt": "e5m2"}, "fmt is 'e5m2'; supported: e4m3"),
        ({"activation_scheme": "static"}, "activation_scheme is 'static'; supported: dynamic"),
        ({"activation_scheme": "none", "weight_block_size": None}, "'none'; supported: dynamic, static"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        method(**config)


def test_without_blocks_there_is_one_scale_a_tensor() -> None:
    wanted = RowScaled("float8_e4m3fn", by_rows=False, ignored=("mlp.gate",))
    for scheme in ("dynamic", "static"):
        found = method(weight_block_size=None, activation_scheme=scheme, modules_to_not_convert=["mlp.gate"])
        assert found == wanted
        assert found.name == "fp8"


def test_what_is_encoded_is_chosen_by_name() -> None:
    ignored = method(modules_to_not_convert=["lm_head", "model.layers.1", "mlp.gate"], ignored_layers=None)
    assert ignored.covers("model.layers.0.mlp.gate_proj")
    assert not ignored.covers("model.layers.0.mlp.gate")
    assert not ignored.covers("model.layers.1.mlp.up_proj")
    assert ignored.covers("model.layers.11.mlp.up_proj")
    assert not method().covers("lm_head")
    assert not method(ignored_layers=["model.layers.0.mlp.up_proj"]).covers("model.layers.0.mlp.up_proj")
