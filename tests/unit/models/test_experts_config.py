"""What config.json says of experts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jackfield.config.experts_config import ExpertsConfig
from jackfield.config.json_fields import ConfigError
from jackfield.config.model_config import load_model_config

PLAIN: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}


def read(folder: Path, architecture: str, **fields: Any) -> ExpertsConfig | None:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], **PLAIN, **fields}))
    return load_model_config(folder).experts


def test_mixtral_has_experts_in_every_layer(tmp_path: Path) -> None:
    wanted = ExpertsConfig(num_experts=8, top=2, inner_size=64, renormalize=True, layers=frozenset(range(6)))
    assert read(tmp_path, "MixtralForCausalLM") == wanted
    found = read(tmp_path, "MixtralForCausalLM", num_local_experts=5, num_experts_per_tok=3)
    assert found is not None
    assert (found.num_experts, found.top) == (5, 3)


@pytest.mark.parametrize("spelling", ["num_experts", "num_local_experts"])
def test_qwen3_has_them_where_its_config_says(tmp_path: Path, spelling: str) -> None:
    sizes = {spelling: 12, "num_experts_per_tok": 4, "moe_intermediate_size": 48}
    found = read(tmp_path, "Qwen3MoeForCausalLM", **sizes, decoder_sparse_step=2, mlp_only_layers=[3])
    assert found == ExpertsConfig(num_experts=12, top=4, inner_size=48, renormalize=False, layers=frozenset({1, 5}))
    assert read(tmp_path, "Qwen3MoeForCausalLM", **sizes, mlp_only_layers=list(range(6))) is None
    found = read(tmp_path, "Qwen3MoeForCausalLM", norm_topk_prob=True)
    assert found is not None
    assert found.renormalize


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("MixtralForCausalLM", {"num_local_experts": 0}, "'num_local_experts' must be at least 1; found 0"),
        ("MixtralForCausalLM", {"num_experts_per_tok": 9}, r"\(9\) must be at most the number of experts \(8\)"),
        ("MixtralForCausalLM", {"num_experts_per_tok": "two"}, "'num_experts_per_tok' wanted int, found 'two'"),
        ("Qwen3MoeForCausalLM", {"decoder_sparse_step": 0}, "'decoder_sparse_step' must be at least 1"),
        ("Qwen3MoeForCausalLM", {"mlp_only_layers": [6]}, r"'mlp_only_layers' must name layers 0 to 5; found \[6\]"),
        ("Qwen3MoeForCausalLM", {"moe_intermediate_size": -1}, "'moe_intermediate_size' must be at least 1"),
        ("Qwen3MoeForCausalLM", {"use_sliding_window": True}, "is served without windows"),
    ],
)
def test_what_cannot_be_served_is_refused_by_field(
    tmp_path: Path, architecture: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, architecture, **fields)
