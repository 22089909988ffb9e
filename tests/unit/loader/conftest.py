"""Small checkpoints to load, written tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jackfield.config.json_fields import JsonFields
from jackfield.config.model_config import ModelConfig, load_model_config, parse_model_config
from jackfield.loader.dummy import dummy_model
from jackfield.loader.load import load_model
from jackfield.models.interface import Build, Model
from jackfield.models.registry import ModelRegistry
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.linear import TorchLinear
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_quantization.unquantized import Unquantized

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 32,
    "attention_bias": True,
    "dtype": "float32",
}
LAYER_SHAPES = {
    "input_layernorm.weight": (16,),
    "self_attn.q_proj.weight": (24, 16),
    "self_attn.q_proj.bias": (24,),
    "self_attn.k_proj.weight": (12, 16),
    "self_attn.k_proj.bias": (12,),
    "self_attn.v_proj.weight": (12, 16),
    "self_attn.v_proj.bias": (12,),
    "self_attn.o_proj.weight": (16, 24),
    "self_attn.o_proj.bias": (16,),
    "post_attention_layernorm.weight": (16,),
    "mlp.gate_proj.weight": (24, 16),
    "mlp.up_proj.weight": (24, 16),
    "mlp.down_proj.weight": (16, 24),
}


def build_for(config: ModelConfig, dtype: str = "float32") -> Build:
    """Plain torch."""
    return Build(
        config=config,
        dtype=getattr(torch, dtype),
        kv_dtype=torch.float32,
        device=torch.device("cpu"),
        capabilities=Capabilities(dtypes=(dtype,), kv_dtypes=("float32",)),
        ops=resolve(OpTable(), OpSpec(dtype)),
        linear_ops=(TorchLinear(),),
        comm=SingleRank(),
        quant=lambda name: Unquantized(),
        layers=range(config.num_layers),
    )


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """Every tensor of a small untied Llama, split as checkpoints have it."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (50, 16), "model.norm.weight": (16,)}
    shapes["lm_head.weight"] = (50, 16)
    for layer in range(2):
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in LAYER_SHAPES.items()})
    generator = torch.Generator().manual_seed(11)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write(tensors, shards=2, **config)` makes a folder."""

    def make(tensors: dict[str, Tensor], shards: int = 1, **config: Any) -> Path:
        (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **config}))
        if shards == 1:
            save_file(tensors, tmp_path / "model.safetensors")
            return tmp_path
        where = {name: f"part-{number % shards}.safetensors" for number, name in enumerate(tensors)}
        for file in set(where.values()):
            save_file({name: tensors[name] for name in tensors if where[name] == file}, tmp_path / file)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
        return tmp_path

    return make


@pytest.fixture
def load() -> Callable[..., Model]:
    """`load(folder, dtype)` gives the filled model."""

    def run(folder: Path, dtype: str = "float32") -> Model:
        config = load_model_config(folder)
        return load_model(config, build_for(config, dtype), folder, progress=False)

    return run


@pytest.fixture
def dummy() -> Callable[[int], Model]:
    """`dummy(seed)` gives a small model with random weights."""

    def make(seed: int) -> Model:
        fields = JsonFields(dict(CONFIG), "config")
        config = parse_model_config(fields, JsonFields({}, "generation_config"), ModelRegistry())
        return dummy_model(config, build_for(config), seed=seed)

    return make
