"""Checkpoints that the compressed-tensors library writes: greedy tokens are those of the weights that it reads back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationStatus,
    apply_quantization_config,
    preset_name_to_scheme,
)
from compressed_tensors.quantization.utils import calculate_qparams
from small_checkpoints import engine_of, greedy
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils.quantization_config import CompressedTensorsConfig

CONFIG = LlamaConfig(
    vocab_size=199,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=128,
)


def random_model() -> Any:
    """Activations of about one, so that answers wander."""
    generator = torch.Generator().manual_seed(3)
    model = LlamaForCausalLM(CONFIG).float().eval()
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            size = 1 if "embed" in name else (0.3 if "lm_head" in name else 1.5 * weight.shape[1] ** -0.5)
            weight.data = torch.randn(weight.shape, generator=generator) * size
    return model


def ends(weight: Tensor, scheme: QuantizationArgs) -> tuple[Tensor, Tensor]:
    """The least and the largest number of what shares a scale."""
    if scheme.strategy == "group":
        weight = weight.unflatten(1, (-1, scheme.group_size))
        return weight.amin(-1), weight.amax(-1)
    if scheme.strategy == "block":
        rows, columns = scheme.block_structure
        weight = weight.unflatten(1, (-1, columns)).unflatten(0, (-1, rows))
        return weight.amin((1, 3)), weight.amax((1, 3))
    if scheme.strategy == "channel":
        return weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    return weight.min().reshape(1), weight.max().reshape(1)


def calibrate(layer: Any) -> None:
    """Fill the scales that the library made room for."""
    scheme = layer.quantization_scheme.weights
    scale, zero = calculate_qparams(*ends(layer.weight.data, scheme), scheme)
    layer.weight_scale.data.copy_(scale.reshape(layer.weight_scale.shape))
    if hasattr(layer, "weight_zero_point"):
        layer.weight_zero_point.data.copy_(zero.reshape(layer.weight_zero_point.shape))
    if hasattr(layer, "input_scale"):
        layer.input_scale.data.fill_(0.05)
    layer.quantization_status = QuantizationStatus.FROZEN


def write(folder: Path, preset: str) -> None:
    """A compressed checkpoint."""
    model = random_model()
    groups = {"group_0": preset_name_to_scheme(preset, ["Linear"])}
    apply_quantization_config(model, QuantizationConfig(config_groups=groups, ignore=["lm_head"]))
    for layer in model.modules():
        if getattr(layer, "quantization_scheme", None) is not None:
            calibrate(layer)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)


def read_back(folder: Path) -> Any:
    """A plain model with the weights that the library reads from there."""
    whole = CompressedTensorsConfig(run_compressed=False)
    read = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=whole).state_dict()
    model = LlamaForCausalLM(CONFIG).float().eval()
    model.load_state_dict({name: read[name] for name in model.state_dict()})
    return model


def answers(model: Any) -> dict[str, list[int]]:
    """What `greedy` asks, of transformers."""
    rng, found = np.random.default_rng(8), {}
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    for length in (1, 3, 17, 60):
        ids = torch.tensor([rng.integers(0, 199, length).tolist()])
        found[str(length)] = model.generate(ids, max_new_tokens=40, do_sample=False)[0, length:].tolist()
    return found


@pytest.mark.filterwarnings("ignore")  # of the library's own
@pytest.mark.parametrize("preset", ["W4A16", "W4A16_ASYM", "W8A16", "W8A8", "FP8", "FP8_DYNAMIC", "FP8_BLOCK"])
def test_tokens_are_those_of_the_weights_that_the_library_reads(tmp_path: Path, preset: str) -> None:
    write(tmp_path, preset)
    engine = engine_of(tmp_path)
    assert "weights compressed-tensors" in engine.startup_text
    assert greedy(engine) == answers(read_back(tmp_path))
