"""A small random Llama: its checkpoint on disk, and its definition in float64."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor

from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import Paged
from jackfield_platforms.testing.conformance import oracle

_EPS, _THETA = 1e-5, 10_000.0


class Sizes(msgspec.Struct, frozen=True):
    """Small, with a head size that devices' kernels know."""

    vocab: int = 199
    hidden: int = 64
    intermediate: int = 96
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    context: int = 1024


SIZES = Sizes()
NEED = AttentionNeed(
    Paged(SIZES.kv_heads, SIZES.head_dim, SIZES.head_dim, "float32"), SIZES.heads, SIZES.head_dim**-0.5
)


def random_weights(seed: int) -> dict[str, Tensor]:
    """float32 weights by their names in a checkpoint, wide enough that attention decides and answers wander."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int, gain: float = 1.5) -> Tensor:
        made: Tensor = torch.randn(rows, columns, generator=generator) * gain * columns**-0.5
        return made

    def norm() -> Tensor:
        return 1 + 0.1 * torch.randn(SIZES.hidden, generator=generator)

    queries, keys = SIZES.heads * SIZES.head_dim, SIZES.kv_heads * SIZES.head_dim
    weights = {
        "model.embed_tokens.weight": matrix(SIZES.vocab, SIZES.hidden, 8.0),
        "model.norm.weight": norm(),
        "lm_head.weight": matrix(SIZES.vocab, SIZES.hidden),
    }
    for layer in range(SIZES.layers):
        parts = {
            "input_layernorm": norm(),
            "self_attn.q_proj": matrix(queries, SIZES.hidden, 3.0),
            "self_attn.k_proj": matrix(keys, SIZES.hidden, 3.0),
            "self_attn.v_proj": matrix(keys, SIZES.hidden),
            "self_attn.o_proj": matrix(SIZES.hidden, queries),
            "post_attention_layernorm": norm(),
            "mlp.gate_proj": matrix(SIZES.intermediate, SIZES.hidden),
            "mlp.up_proj": matrix(SIZES.intermediate, SIZES.hidden),
            "mlp.down_proj": matrix(SIZES.hidden, SIZES.intermediate),
        }
        weights |= {f"model.layers.{layer}.{name}.weight": weight for name, weight in parts.items()}
    return weights


def write_checkpoint(folder: Path, weights: dict[str, Tensor]) -> None:
    """config.json and model.safetensors."""
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": SIZES.vocab,
        "hidden_size": SIZES.hidden,
        "intermediate_size": SIZES.intermediate,
        "num_hidden_layers": SIZES.layers,
        "num_attention_heads": SIZES.heads,
        "num_key_value_heads": SIZES.kv_heads,
        "head_dim": SIZES.head_dim,
        "max_position_embeddings": SIZES.context,
        "rms_norm_eps": _EPS,
        "rope_theta": _THETA,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")


def logits(weights: dict[str, Tensor], tokens: list[int]) -> Tensor:
    """Float64 logits after each of the tokens of one sequence, `[tokens, vocab]`."""
    wide = {name: weight.double() for name, weight in weights.items()}
    hidden = wide["model.embed_tokens.weight"][torch.tensor(tokens)]
    for layer in range(SIZES.layers):
        part = {name.removeprefix(f"model.layers.{layer}."): weight for name, weight in wide.items()}
        hidden = hidden + _attend(part, oracle.rms_norm(hidden, part["input_layernorm.weight"], _EPS))
        hidden = hidden + _mlp(part, oracle.rms_norm(hidden, part["post_attention_layernorm.weight"], _EPS))
    normed = oracle.rms_norm(hidden, wide["model.norm.weight"], _EPS)
    return normed @ wide["lm_head.weight"].T


def _attend(part: dict[str, Tensor], x: Tensor) -> Tensor:
    names = ("q_proj", "k_proj", "v_proj")
    q, k, v = ((x @ part[f"self_attn.{name}.weight"].T).unflatten(1, (-1, SIZES.head_dim)) for name in names)
    positions = torch.arange(len(x))
    angles = positions[:, None] / _THETA ** (torch.arange(0, SIZES.head_dim, 2, dtype=torch.float64) / SIZES.head_dim)
    table = torch.cat((angles.cos(), angles.sin()), dim=1)
    q, k = (oracle.rotate(tensor, table, positions, False) for tensor in (q, k))
    return oracle.attention(q, k, v, NEED).flatten(1) @ part["self_attn.o_proj.weight"].T


def _mlp(part: dict[str, Tensor], x: Tensor) -> Tensor:
    gate_up = torch.cat((x @ part["mlp.gate_proj.weight"].T, x @ part["mlp.up_proj.weight"].T), dim=1)
    return oracle.silu_mul(gate_up) @ part["mlp.down_proj.weight"].T
