"""What config.json and generation_config.json say, in every spelling, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jackfield.config.json_fields import ConfigError
from jackfield.config.latent_config import LatentConfig
from jackfield.config.model_config import ModelConfig, load_model_config
from jackfield.models.registry import ModelRegistry

PLAIN: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}


def read(folder: Path, generation: dict[str, Any] | None = None, **fields: Any) -> ModelConfig:
    """The config of PLAIN with `fields` changed."""
    (folder / "config.json").write_text(json.dumps({**PLAIN, **fields}))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return load_model_config(folder)


def test_absent_fields_take_the_values_that_llama_gives_them(tmp_path: Path) -> None:
    config = read(tmp_path, head_dim=None)
    assert (config.num_kv_heads, config.head_dim, config.rms_norm_eps) == (4, 8, 1e-6)
    assert (config.rope.type, config.rope.theta, config.dtype) == ("default", 10_000.0, "float32")
    assert not config.tie_word_embeddings
    assert config.windows == (None,) * 4
    assert config.eos_token_ids == ()


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_the_dtype_has_two_spellings(tmp_path: Path, field: str) -> None:
    assert read(tmp_path, **{field: "bfloat16"}).dtype == "bfloat16"


def test_the_old_and_the_new_spelling_of_rope_agree(tmp_path: Path) -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    old = read(tmp_path, rope_theta=5e5, rope_scaling={"rope_type": "llama3", **scaling})
    new = read(tmp_path, rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, **scaling})
    assert old.rope == new.rope
    assert old.rope.original_max_len == 64
    assert read(tmp_path, rope_scaling={"type": "linear", "factor": 2}).context_len == 256


def test_end_tokens_of_both_files_count(tmp_path: Path) -> None:
    assert read(tmp_path, {"eos_token_id": [7, 3]}, eos_token_id=3).eos_token_ids == (7, 3)
    assert read(tmp_path, {"temperature": 0.6, "top_k": 20}).default_sampling == {"temperature": 0.6, "top_k": 20}


def test_windows_follow_each_family(tmp_path: Path) -> None:
    qwen, mistral = ["Qwen3ForCausalLM"], ["MistralForCausalLM"]
    asked = {"sliding_window": 16, "use_sliding_window": True}
    assert read(tmp_path, architectures=mistral, sliding_window=16).windows == (16,) * 4
    assert read(tmp_path, architectures=qwen, sliding_window=16, max_window_layers=2).windows == (None,) * 4
    assert read(tmp_path, architectures=qwen, max_window_layers=2, **asked).windows == (None, None, 16, 16)
    kinds = ["sliding_attention", "full_attention"] * 2
    assert read(tmp_path, architectures=qwen, layer_types=kinds, **asked).windows == (16, None, 16, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, r"is \['GPT2LMHeadModel'\]; supported: DeepseekV2ForCausalLM, "),
        ({"hidden_size": None}, "'hidden_size' is missing"),
        ({"hidden_size": "wide"}, "'hidden_size' wanted int, found 'wide'"),
        ({"vocab_size": 0}, "'vocab_size' must be at least 1"),
        ({"num_key_value_heads": 3}, r"'num_key_value_heads' \(3\) must divide"),
        ({"hidden_size": 34}, "is no multiple of num_attention_heads"),
        ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu'; supported: silu"),
        ({"dtype": "float8_e4m3fn"}, "supported: bfloat16, float16, float32"),
        ({"rope_scaling": {"rope_type": "spiral"}}, "'rope_type' is 'spiral'; supported rope types: d"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling: field 'factor' is missing"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "'long_factor' is missing"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: field 'quant_method' is missing"),
        ({"quantization_config": "gptq"}, "'quantization_config' wanted dict, found 'gptq'"),
        (
            {"architectures": ["MistralForCausalLM"], "sliding_window": 8, "layer_types": ["full_attention"]},
            "must name full_attention or sliding_attention 4 times",
        ),
    ],
)
def test_what_cannot_be_served_is_named_with_its_file(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, **fields)
    assert "config.json" in str(caught.value)


LATENT = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "first_k_dense_replace": 4,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
}


def test_the_sizes_of_latent_attention_are_read(tmp_path: Path) -> None:
    config = read(tmp_path, **LATENT, hidden_size=34)
    assert config.latent == LatentConfig(query_rank=None, rank=16, rope_dim=4, nope_dim=8, v_dim=6, interleaved=True)
    assert config.head_dim == 4
    assert config.attention_size == 4 * (12 + 2 * 16 + 4 + 6) + 2 * 20
    assert not read(tmp_path, **LATENT, rope_interleave=False).latent.interleaved  # type: ignore[union-attr]
    assert read(tmp_path, **LATENT, q_lora_rank=12).latent.query_rank == 12  # type: ignore[union-attr]
    assert read(tmp_path).latent is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"first_k_dense_replace": 1}, "'first_k_dense_replace' is 1, so that layers 1 to 3 are mixtures of experts"),
        ({"first_k_dense_replace": None}, "'first_k_dense_replace' is 0, so that layers 0 to 3"),
        ({"kv_lora_rank": None}, "'kv_lora_rank' is missing"),
        ({"v_head_dim": 0}, "'v_head_dim' must be at least 1"),
    ],
)
def test_latent_models_that_cannot_be_served_name_the_field(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, **{**LATENT, **fields})


def test_the_quantisation_is_kept_as_it_stands(tmp_path: Path) -> None:
    given = {"quant_method": "gptq", "bits": 4, "desc_act": None}
    assert read(tmp_path, quantization_config=given).quantization == given
    assert read(tmp_path).quantization is None


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        load_model_config(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        load_model_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is not valid JSON"):
        load_model_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="must hold a JSON object; found list"):
        load_model_config(tmp_path)


def test_plugins_add_architectures_and_may_not_replace_any(tmp_path: Path) -> None:
    registry = ModelRegistry().extended({"OwnForCausalLM": "collections:OrderedDict"})
    (tmp_path / "config.json").write_text(json.dumps({**PLAIN, "architectures": ["OwnForCausalLM"]}))
    assert load_model_config(tmp_path, registry).architecture == "OwnForCausalLM"
    with pytest.raises(ValueError, match="Two models for LlamaForCausalLM"):
        ModelRegistry().extended({"LlamaForCausalLM": "elsewhere:Llama"})
    with pytest.raises(ValueError, match="No model for 'Nobody'; supported: DeepseekV2ForCausalLM"):
        ModelRegistry().model_class("Nobody")
