"""What is measured: on a GPU, and in small, to see that the script works."""

from __future__ import annotations

from typing import Any

import msgspec

from jackfield_platforms.linear import torch_dtype

HEADS, KV_HEADS, DIM = 32, 8, 128  # of Llama 3 and Qwen3 8B
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151_936, "rms_norm_eps": 1e-6,
    "hidden_act": "silu", "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40_960,
    "rope_theta": 1_000_000.0,
}  # fmt: skip
SHAPES = {
    "0.6B": {**QWEN3, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
             "num_attention_heads": 16, "tie_word_embeddings": True},
    "8B": {**QWEN3, "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36,
           "num_attention_heads": 32, "tie_word_embeddings": False},
}  # fmt: skip
RUNS = 20


class Sizes(msgspec.Struct, frozen=True):
    """What is measured."""

    dtype: str
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    prompts: dict[str, list[tuple[int, int]]]  # (kv_len, new tokens) of each row
    shapes: dict[str, dict[str, Any]]
    model_batches: tuple[int, int]
    tokens: int  # that each sequence decodes
    mix: tuple[int, int, int]  # requests, tokens of a prompt and of an answer on average
    copied: int  # bytes
    matrix: int  # rows and columns
    apart: int  # bytes of cache that runs go round
    kit: tuple[str, ...]  # what the conformance kit is asked for beside its name
    runs: int = RUNS

    @property
    def number(self) -> int:
        """Bytes."""
        return torch_dtype(self.dtype).itemsize

    @property
    def token_bytes(self) -> int:
        """Keys and values of a layer."""
        return 2 * KV_HEADS * DIM * self.number


FULL = Sizes(
    dtype="bfloat16",
    batches=(1, 8, 64, 256),
    contexts=(512, 4096, 32_768),
    prompts={
        "1 prompt of 4,096": [(4096, 4096)],
        "16 prompts of 512": [(512, 512)] * 16,
        "2,048 behind 30,720": [(32_768, 2048)],
    },
    shapes=SHAPES,
    model_batches=(1, 64),
    tokens=64,
    mix=(256, 220, 190),
    copied=1 << 30,
    matrix=8192,
    apart=1 << 28,
    kit=("--seeds", "1"),
)
_TINY_SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 8,
               "tie_word_embeddings": True, "vocab_size": 500, "head_dim": 16, "num_key_value_heads": 8}  # fmt: skip
TINY = Sizes(
    dtype="float32",
    batches=(1, 2),
    contexts=(70,),
    prompts={"2 prompts of 20": [(20, 20)] * 2, "8 behind 40": [(48, 8)]},
    shapes={"0.6B": {**QWEN3, **_TINY_SHAPE}},
    model_batches=(1, 2),
    tokens=9,
    mix=(2, 6, 4),
    copied=1 << 20,
    matrix=256,
    apart=1 << 10,
    kit=("--seeds", "1", "-k", "check_silu_mul"),
    runs=2,
)
