"""Whole models: a quantised checkpoint answers as a plain one that holds the numbers its weights stand for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_tensors import (
    Exact,
    Tensors,
    awq,
    block_fp8,
    gptq,
    gptq_groups,
    packed_ints,
    rounded_to_int4,
    rounded_to_int8,
    row_scaled,
)
from small_checkpoints import FUSED, LINEARS, engine_of, greedy, plain_linear, replaced, tensors_of, write

from jackfield_cpu.native_linear import NativeLinear
from jackfield_platforms.dequant_linear import TorchDequantLinear
from jackfield_platforms.linear import Encoded, Encoding

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": False}
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
NUM_PRODUCTS = 2 * 4  # qkv, o, gate_up, down in each layer


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[Encoding]:
    """The encodings, other than plain floats, that the reference op and the CPU's own pack."""
    seen: list[Encoding] = []

    def record(op: type[Any]) -> None:
        pack = op.pack

        def recorded(self: Any, encoded: Encoded) -> Any:
            if not encoded.encoding.is_plain:
                seen.append(encoded.encoding)
            return pack(self, encoded)

        monkeypatch.setattr(op, "pack", recorded)

    record(TorchDequantLinear)
    record(NativeLinear)
    return seen


def gptq_linear(
    bits: int, shuffled: bool, symmetric: bool
) -> Callable[[np.random.Generator, str, int, int], tuple[Tensors, Exact]]:
    """Parts of a fused layer see the same inputs, and so have them in the same order."""

    def encode(rng: np.random.Generator, name: str, out_size: int, in_size: int) -> tuple[Tensors, Exact]:
        shared = np.random.default_rng([int(name.split(".")[2]), in_size, len(name.split(".")[3])])
        return gptq(rng, out_size, gptq_groups(shared, in_size, 32, shuffled), bits, symmetric=symmetric)

    return encode


def fp8_linear(rng: np.random.Generator, name: str, out_size: int, in_size: int) -> tuple[Tensors, Exact]:
    return block_fp8(rng, out_size, in_size)


def side_by_side(tensors: Tensors) -> Tensors:
    """The same GPTQ checkpoint with q, k, v and gate, up stored as one."""
    out = dict(tensors)
    for layer in range(2):
        for fused, parts in FUSED.items():
            parent = f"model.layers.{layer}.{fused.split('.')[0]}"
            for param in ("qweight", "qzeros", "scales", "g_idx"):
                taken = [out.pop(f"{parent}.{part}.{param}") for part in parts]
                whole = taken[0] if param == "g_idx" else torch.cat(taken, dim=1)
                out[f"model.layers.{layer}.{fused}.{param}"] = whole
    return out


@pytest.mark.parametrize(
    ("bits", "shuffled", "symmetric", "is_fused"),
    [
        (4, False, False, False),
        (4, True, False, False),
        (4, True, True, True),
        (8, False, True, False),
        (8, True, False, True),
    ],
)
def test_gptq_answers_as_its_numbers_do(
    tmp_path: Path, packed: list[Encoding], bits: int, shuffled: bool, symmetric: bool, is_fused: bool
) -> None:
    tensors, exact = tensors_of(gptq_linear(bits, shuffled, symmetric))
    plain = greedy(engine_of(write(tmp_path / "plain", replaced(tensors, exact))))
    assert not packed
    config = {**GPTQ, "bits": bits, "desc_act": shuffled, "sym": symmetric}
    stored = side_by_side(tensors) if is_fused else tensors
    engine = engine_of(write(tmp_path / "gptq", stored, config))
    assert "weights gptq" in engine.startup_text
    assert greedy(engine) == plain
    wanted = Encoding("int", bits, 32, scale="float16", zero=not symmetric, ordered=shuffled)
    assert packed == [wanted] * NUM_PRODUCTS


def test_block_fp8_answers_as_its_numbers_do(tmp_path: Path, packed: list[Encoding]) -> None:
    tensors, exact = tensors_of(fp8_linear)
    plain = greedy(engine_of(write(tmp_path / "plain", replaced(tensors, exact))))
    assert greedy(engine_of(write(tmp_path / "fp8", tensors, FP8))) == plain
    assert len(packed) == NUM_PRODUCTS
    assert {encoding.group_out for encoding in packed} == {64, 128}, "k and v of 64 rows make smaller blocks"


def test_awq_answers_as_its_numbers_do(tmp_path: Path, packed: list[Encoding]) -> None:
    tensors, exact = tensors_of(lambda rng, name, out_size, in_size: awq(rng, out_size, in_size, 32))
    plain = greedy(engine_of(write(tmp_path / "plain", replaced(tensors, exact))))
    config = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
    engine = engine_of(write(tmp_path / "awq", tensors, {**config, "modules_to_not_convert": None}))
    assert "weights awq" in engine.startup_text
    assert greedy(engine) == plain
    assert packed == [Encoding("int", 4, 32, scale="float16", zero=True)] * NUM_PRODUCTS


@pytest.mark.parametrize("scheme", ["dynamic", "static"])
def test_float8_with_a_scale_a_tensor_answers_as_its_numbers_do(
    tmp_path: Path, packed: list[Encoding], scheme: str
) -> None:
    def encode(rng: np.random.Generator, name: str, out_size: int, in_size: int) -> tuple[Tensors, Exact]:
        tensors, exact = row_scaled(rng, out_size, in_size, "float8_e4m3fn", False)
        numbers = {"weight_scale": tensors.pop("weight_scale")[0].clone()}  # without dimensions, as AutoFP8 stores it
        if scheme == "static":
            numbers["input_scale"] = torch.tensor(0.25)
        return {**tensors, **numbers}, exact

    tensors, exact = tensors_of(encode)
    plain = greedy(engine_of(write(tmp_path / "plain", replaced(tensors, exact))))
    config = {"quant_method": "fp8", "activation_scheme": scheme, "ignored_layers": ["lm_head"]}
    assert greedy(engine_of(write(tmp_path / "fp8", tensors, config))) == plain
    assert packed == [Encoding("float", 8, scale="float32")] * NUM_PRODUCTS


COMPRESSED = {  # format, weights, how a layer is stored, what it becomes
    "w4a16": (
        "pack-quantized",
        {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False},
        lambda rng, name, outs, ins: packed_ints(rng, outs, np.arange(ins) // 32, 4),
        Encoding("int", 4, 32, scale="float32", zero=True),
    ),
    "w8a16": (
        "pack-quantized",
        {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
        lambda rng, name, outs, ins: packed_ints(rng, outs, np.zeros(ins, dtype=int), 8, symmetric=True),
        Encoding("int", 8, scale="float32"),
    ),
    "w8a8": (
        "int-quantized",
        {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
        lambda rng, name, outs, ins: row_scaled(rng, outs, ins, "int8", True),
        Encoding("int", 8, scale="float32"),
    ),
    "fp8": (
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
        lambda rng, name, outs, ins: row_scaled(rng, outs, ins, "float8_e4m3fn", True),
        Encoding("float", 8, scale="float32"),
    ),
}


@pytest.mark.parametrize("case", COMPRESSED)
def test_compressed_tensors_answer_as_their_numbers_do(tmp_path: Path, packed: list[Encoding], case: str) -> None:
    format, weights, encode, wanted = COMPRESSED[case]
    tensors, exact = tensors_of(encode)
    if format == "pack-quantized":  # only an order of the activations needs it
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("g_idx")}
    plain = greedy(engine_of(write(tmp_path / "plain", replaced(tensors, exact))))
    config = {
        "quant_method": "compressed-tensors",
        "format": format,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }
    assert greedy(engine_of(write(tmp_path / "stored", tensors, config))) == plain
    assert packed == [wanted] * NUM_PRODUCTS


def test_block_scales_may_be_stored_in_sixteen_bits(tmp_path: Path) -> None:
    tensors, _ = tensors_of(fp8_linear)
    short = {name: t.bfloat16() if name.endswith("scale_inv") else t for name, t in tensors.items()}
    wide = {name: t.float() if name.endswith("scale_inv") else t for name, t in short.items()}
    answers = [greedy(engine_of(write(tmp_path / name, stored, FP8))) for name, stored in (("a", short), ("b", wide))]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bit_activations_answer_too(tmp_path: Path, packed: list[Encoding], dtype: str) -> None:
    tensors, _ = tensors_of(gptq_linear(4, True, False))
    config = {**GPTQ, "desc_act": True}
    assert greedy(engine_of(write(tmp_path, tensors, config), dtype=dtype))
    assert len(packed) == NUM_PRODUCTS


def test_layers_that_a_checkpoint_leaves_plain_stay_so(tmp_path: Path, packed: list[Encoding]) -> None:
    left = ["model.layers.0.mlp.down_proj", "lm_head", *(name for name in LINEARS if name.startswith("model.layers.1"))]

    def encode(rng: np.random.Generator, name: str, out_size: int, in_size: int) -> tuple[Tensors, Exact]:
        return (plain_linear if name in left else fp8_linear)(rng, name, out_size, in_size)

    tensors, exact = tensors_of(encode)
    plain = greedy(engine_of(write(tmp_path / "plain", replaced(tensors, exact))))
    assert greedy(engine_of(write(tmp_path / "fp8", tensors, {**FP8, "modules_to_not_convert": left}))) == plain
    assert len(packed) == 3


@pytest.mark.parametrize(("format", "group"), [("int8", None), ("int8-g128", 128)])
def test_int8_answers_as_its_numbers_do(tmp_path: Path, packed: list[Encoding], format: str, group: int | None) -> None:
    tensors, exact = tensors_of(plain_linear)
    rounded = {name: rounded_to_int8(weight, group or weight.shape[1]) for name, weight in exact.items()}
    plain = greedy(engine_of(write(tmp_path / "rounded", replaced(tensors, rounded))))
    folder = write(tmp_path / "plain", tensors)
    assert greedy(engine_of(folder, quantization=format)) == plain
    assert packed == [Encoding("int", 8, group, scale="float32")] * NUM_PRODUCTS
    assert greedy(engine_of(folder)) != plain, "rounding must be seen, or this proves nothing"


def test_the_head_is_rounded_where_the_format_says_so(tmp_path: Path, packed: list[Encoding]) -> None:
    tensors, exact = tensors_of(plain_linear)
    exact = {**exact, "lm_head": tensors["lm_head.weight"].double().numpy()}
    rounded = {name: rounded_to_int8(weight, weight.shape[1]) for name, weight in exact.items()}
    plain = greedy(engine_of(write(tmp_path / "rounded", replaced(tensors, rounded))))
    assert greedy(engine_of(write(tmp_path / "plain", tensors), quantization="int8-all")) == plain
    assert packed == [Encoding("int", 8, scale="float32")] * (NUM_PRODUCTS + 1)


@pytest.mark.parametrize("format", ["int4", "int4-all"])
def test_int4_answers_as_its_numbers_do(tmp_path: Path, packed: list[Encoding], format: str) -> None:
    tensors, exact = tensors_of(plain_linear)
    rounded = {name: rounded_to_int4(weight) for name, weight in exact.items()}
    if format == "int4-all":
        head = tensors["lm_head.weight"].double().numpy()
        exact, rounded = {**exact, "lm_head": head}, {**rounded, "lm_head": rounded_to_int8(head, head.shape[1])}
    plain = greedy(engine_of(write(tmp_path / "rounded", replaced(tensors, rounded))))
    assert greedy(engine_of(write(tmp_path / "plain", tensors), quantization=format)) == plain
    wanted = [Encoding("int", 4, 32, scale="float16")] * NUM_PRODUCTS
    heads = [Encoding("int", 8, scale="float32")] if format == "int4-all" else []
    assert sorted(packed, key=lambda one: one.bits) == wanted + heads


def test_random_weights_can_be_rounded_too(tmp_path: Path, packed: list[Encoding]) -> None:
    write(tmp_path, {"unused": torch.ones(1)})
    greedy(engine_of(tmp_path, load_format="dummy", quantization="int8"))
    assert len(packed) == NUM_PRODUCTS


def test_an_engine_says_in_which_format_the_weights_are(tmp_path: Path) -> None:
    tensors, _ = tensors_of(plain_linear)
    folder = write(tmp_path, tensors)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert "weights unquantized" in engine_of(folder).startup_text
    assert "weights int8" in engine_of(folder, quantization="int8").startup_text
