"""Logits of our models against those of transformers, float32, small random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

SMALL = {
    "vocab_size": 199,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.2,
}
PAIRS = 12  # of rotated elements in a head
LLAMA_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "one kv head": {"num_key_value_heads": 1},
    "no head_dim": {"head_dim": None},
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
    "dynamic, short": {
        "max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    },
    "dynamic, long": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
    "llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1e3,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 24,
        }
    },
    "yarn": {
        "max_position_embeddings": 128,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e3,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "yarn, every field": {
        "max_position_embeddings": 128,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e3,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 8.0,
            "beta_slow": 0.5,
            "mscale": 1.2,
            "mscale_all_dim": 0.7,
            "truncate": False,
        },
    },
    "longrope, short": {
        "max_position_embeddings": 256,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0 + 0.1 * i for i in range(PAIRS)],
            "long_factor": [2.0 + 0.3 * i for i in range(PAIRS)],
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "longrope, long": {
        "max_position_embeddings": 128,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0 + 0.1 * i for i in range(PAIRS)],
            "long_factor": [2.0 + 0.3 * i for i in range(PAIRS)],
            "factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
}
QWEN3_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True},
    "window in the last layers": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 40}
QWEN3_MOE_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "shares add up to one": {"norm_topk_prob": True},
    "every other layer": {"decoder_sparse_step": 2},
    "named layers are dense": {"mlp_only_layers": [0, 2]},
    "one expert a token": {"num_experts_per_tok": 1},
}
DEEPSEEK = {
    "num_key_value_heads": 4,
    "head_dim": 8,  # what is rotated; the class sets it too
    "first_k_dense_replace": 3,
    "kv_lora_rank": 20,
    "q_lora_rank": 28,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "initializer_range": 0.3,
}
DEEPSEEK_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "queries without a latent": {"q_lora_rank": None},
    "biases": {"attention_bias": True},
    "tied": {"tie_word_embeddings": True},
    "yarn with equal scales": {
        "max_position_embeddings": 128,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e3,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "mscale": 0.7,
            "mscale_all_dim": 0.7,
        },
    },
    "yarn with unequal scales": {
        "max_position_embeddings": 128,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e3,
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "mscale": 1.3,
            "mscale_all_dim": 0.6,
        },
    },
}
Logits = Callable[[Path, Tensor], Tensor]


def compare(model: Any, folder: Path, our_logits: Logits, num_tokens: int = 45) -> None:
    """Save transformers' model, load it here, compare every logit."""
    generator = torch.Generator().manual_seed(7)
    for name, weight in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    tokens = torch.randint(model.config.vocab_size, (num_tokens,), generator=generator)
    with torch.inference_mode():
        wanted = model(tokens[None]).logits[0]
    got = our_logits(folder, tokens)
    assert got.shape == wanted.shape
    assert wanted.std() > 0.3, "logits so small would hide differences"
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp(min=1)


@pytest.mark.parametrize("case", LLAMA_CASES)
def test_llama_gives_the_logits_of_transformers(case: str, tmp_path: Path, our_logits: Logits) -> None:
    torch.manual_seed(1)
    compare(LlamaForCausalLM(LlamaConfig(**{**SMALL, **LLAMA_CASES[case]})).eval(), tmp_path, our_logits)


@pytest.mark.parametrize("case", QWEN3_CASES)
def test_qwen3_gives_the_logits_of_transformers(case: str, tmp_path: Path, our_logits: Logits) -> None:
    torch.manual_seed(2)
    compare(Qwen3ForCausalLM(Qwen3Config(**{**SMALL, **QWEN3_CASES[case]})).eval(), tmp_path, our_logits)


@pytest.mark.parametrize("case", QWEN3_MOE_CASES)
def test_qwen3_moe_gives_the_logits_of_transformers(case: str, tmp_path: Path, our_logits: Logits) -> None:
    torch.manual_seed(6)
    config = Qwen3MoeConfig(**{**SMALL, **EXPERTS, **QWEN3_MOE_CASES[case]})
    compare(Qwen3MoeForCausalLM(config).eval(), tmp_path, our_logits)


@pytest.mark.parametrize("window", [None, 5])
def test_mixtral_gives_the_logits_of_transformers(window: int | None, tmp_path: Path, our_logits: Logits) -> None:
    torch.manual_seed(7)
    config = MixtralConfig(**{**SMALL, "num_local_experts": 5, "sliding_window": window})
    compare(MixtralForCausalLM(config).eval(), tmp_path, our_logits)


@pytest.mark.parametrize("window", [None, 5])
def test_mistral_gives_the_logits_of_transformers(window: int | None, tmp_path: Path, our_logits: Logits) -> None:
    torch.manual_seed(3)
    compare(MistralForCausalLM(MistralConfig(**{**SMALL, "sliding_window": window})).eval(), tmp_path, our_logits)


@pytest.mark.parametrize("case", DEEPSEEK_CASES)
def test_deepseek_v2_gives_the_logits_of_transformers(case: str, tmp_path: Path, our_logits: Logits) -> None:
    torch.manual_seed(4)
    config = DeepseekV2Config(**{**SMALL, **DEEPSEEK, **DEEPSEEK_CASES[case]})
    compare(DeepseekV2ForCausalLM(config).eval(), tmp_path, our_logits)


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("case", DEEPSEEK_CASES)
def test_deepseek_v3_gives_the_logits_of_transformers(
    case: str, interleaved: bool, tmp_path: Path, our_logits: Logits
) -> None:
    torch.manual_seed(5)
    config = DeepseekV3Config(
        **{**SMALL, **DEEPSEEK, **DEEPSEEK_CASES[case], "rope_interleave": interleaved, "num_mtp_layers": 0}
    )
    compare(DeepseekV3ForCausalLM(config).eval(), tmp_path, our_logits)
