"""Small random checkpoints whose greedy answers wander, and the answers that Hugging Face gives for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

VOCAB = 997
NEW_TOKENS = 64
PROMPT_LENGTHS = (1, 2, 17, 48, 130, 256, 411, 600)

_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}


_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 256,
    "mscale": 1.0,
    "mscale_all_dim": 0.8,
}
_LATENT = {
    "num_key_value_heads": 6,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 32,
    "q_lora_rank": 48,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 20,
    "num_mtp_layers": 0,
}


class SmallModel(msgspec.Struct, frozen=True):
    """A checkpoint on disk, its Hugging Face twin in float32, prompts, and the twin's greedy answers."""

    name: str
    path: Path
    twin: Any
    prompts: list[list[int]]
    answers: list[list[int]]

    def cache_bytes(self, num_blocks: int) -> int:
        """Of so many blocks of 16 tokens in float32, the null block included."""
        a_layer = {
            "llama": 2 * 16 * 2,
            "mixtral": 2 * 16 * 2,
            "qwen3-moe": 2 * 32 * 2,
            "deepseek": 32 + 16,
        }  # kv heads, head size, K and V; a latent and a rotated key
        return num_blocks * 16 * 3 * 4 * a_layer.get(self.name, 2 * 24 * 2)


def make(name: str, folder: Path) -> SmallModel:
    """Write the checkpoint of `name` and answer the prompts one at a time.

    Names: llama, qwen3, qwen3-hybrid, deepseek; qwen3-moe, mixtral.
    """
    twin = _scaled(_architecture(name), seed=len(name)).eval()
    twin.save_pretrained(folder)
    rng = np.random.default_rng(17)
    prompts = [rng.integers(1, VOCAB, length).tolist() for length in PROMPT_LENGTHS]
    return SmallModel(name, folder, twin, prompts, [generate(twin, prompt) for prompt in prompts])


def generate(twin: Any, prompt: list[int]) -> list[int]:
    """Greedy tokens of the twin for one prompt."""
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        out = twin.generate(ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False)
    answer: list[int] = out[0, len(prompt) :].tolist()
    return answer


def generate_with_mask(twin: Any, prompt: list[int], count: int, diagonal: int) -> list[int]:
    """Greedy tokens when token i sees tokens up to i + `diagonal`, recomputed whole for every token; the first sees
    itself.
    """
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            size = len(ids)
            seen = torch.ones(size, size, dtype=torch.bool).tril(diagonal)
            seen[0, 0] = True
            bias = torch.zeros(size, size).masked_fill(~seen, torch.finfo(torch.float32).min)
            logits = twin(torch.tensor([ids]), attention_mask=bias[None, None], use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


def float64_gap(twin: Any, tokens: list[int]) -> float:
    """The distance between the two likeliest next tokens after `tokens`, in float64."""
    wide = type(twin)(twin.config).double()
    wide.load_state_dict(twin.state_dict())
    with torch.inference_mode():
        top = wide(torch.tensor([tokens])).logits[0, -1].topk(2).values
    return float(top[0] - top[1])


def _architecture(name: str) -> Any:
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**_SIZES, rope_parameters=_LLAMA3_ROPE, tie_word_embeddings=False))
    if name == "deepseek":
        return DeepseekV3ForCausalLM(DeepseekV3Config(**{**_SIZES, **_LATENT}, rope_parameters=_YARN))
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    if name == "mixtral":
        return MixtralForCausalLM(MixtralConfig(**_SIZES, num_local_experts=6, rope_parameters=rope))
    if name == "qwen3-moe":
        experts = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 48, "mlp_only_layers": [1]}
        sizes = {**_SIZES, **experts, "head_dim": 32, "norm_topk_prob": True}
        return Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, rope_parameters=rope))
    window: dict[str, Any] = {}
    if name == "qwen3-hybrid":
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        window = {"use_sliding_window": True, "sliding_window": 40, "layer_types": kinds}
    return Qwen3ForCausalLM(
        Qwen3Config(**_SIZES, head_dim=24, rope_parameters=rope, tie_word_embeddings=True, **window)
    )


def _scaled(model: Any, seed: int) -> Any:
    """Random weights, wide enough that attention decides and answers do not fall into short loops."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.copy_(1 + 0.1 * torch.randn(weight.shape, generator=generator))
            else:
                scores = ("q_proj", "k_proj", "q_b_proj", "kv_a_proj")
                gain = 3.0 if any(part in name for part in scores) else 1.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * gain * weight.shape[-1] ** -0.5)
    return model
