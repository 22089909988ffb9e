"""Write a checkpoint of random weights in a real shape: no download, the same files every time.

    python benchmarks/make_checkpoint.py qwen3-0.6b FOLDER
    python benchmarks/make_checkpoint.py llama-small FOLDER --dtype float32 --std 0.2 --seed 3

Weights are seeded normal numbers; the tokenizer is a byte-level BPE learnt from the standard library's source. Tensors
are made and written shard by shard, so a folder of any size takes no more memory than a shard.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LEARNT_TOKENS = 8_000  # enough for text; a larger vocabulary is filled up with tokens that nothing encodes to

QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "rms_norm_eps": 1e-6, "hidden_act": "silu"}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-5, "hidden_act": "silu"}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        **QWEN3,
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40_960,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
    },
    "llama-1b": {  # Llama 3.2's
        **LLAMA,
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131_072,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": True,
    },
    "qwen3-small": {
        **QWEN3,
        "vocab_size": 2048,
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
    },
    "llama-small": {
        **LLAMA,
        "vocab_size": 2048,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
    },
}


def shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every tensor, in the order of the layers."""
    hidden, inner, dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        yield f"{name}.input_layernorm.weight", (hidden,)
        yield f"{name}.self_attn.q_proj.weight", (q, hidden)
        yield f"{name}.self_attn.k_proj.weight", (kv, hidden)
        yield f"{name}.self_attn.v_proj.weight", (kv, hidden)
        if config["model_type"] == "qwen3":
            yield f"{name}.self_attn.q_norm.weight", (dim,)
            yield f"{name}.self_attn.k_norm.weight", (dim,)
        yield f"{name}.self_attn.o_proj.weight", (hidden, q)
        yield f"{name}.post_attention_layernorm.weight", (hidden,)
        yield f"{name}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{name}.mlp.up_proj.weight", (inner, hidden)
        yield f"{name}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)


def shards(config: dict[str, Any], max_bytes: int) -> list[list[tuple[str, tuple[int, ...]]]]:
    """The tensors, cut into runs of at most `max_bytes` (one tensor at least)."""
    item = getattr(torch, config["dtype"]).itemsize
    parts: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    used = 0
    for name, shape in shapes(config):
        size = item * torch.Size(shape).numel()
        if parts[-1] and used + size > max_bytes:
            parts.append([])
            used = 0
        parts[-1].append((name, shape))
        used += size
    return parts


def write_weights(config: dict[str, Any], folder: Path, *, std: float, max_bytes: int, seed: int) -> None:
    """model.safetensors, or shards and their index. Norm weights are near 1, matrices have deviation `std`."""
    generator = torch.Generator().manual_seed(seed)
    parts = shards(config, max_bytes)
    where: dict[str, str] = {}
    total = 0
    for number, part in enumerate(parts, start=1):
        file = "model.safetensors" if len(parts) == 1 else f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        tensors = {
            name: random_tensor(shape, std, generator).to(getattr(torch, config["dtype"])) for name, shape in part
        }
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(tensors, file))
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(parts) > 1:
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def random_tensor(shape: tuple[int, ...], std: float, generator: torch.Generator) -> torch.Tensor:
    """Float32; a vector is a norm's weight."""
    noise = torch.randn(shape, generator=generator)
    return noise.mul_(0.1).add_(1) if len(shape) == 1 else noise.mul_(std)


def write_tokenizer(config: dict[str, Any], folder: Path) -> None:
    """A byte-level BPE with exactly `vocab_size` tokens, the special ones first, and a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(config["vocab_size"], LEARNT_TOKENS),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(standard_library(), trainer)
    written = json.loads(tokenizer.to_str())
    vocabulary = written["model"]["vocab"]
    for number in range(len(vocabulary), config["vocab_size"]):  # no merge leads to them; added tokens would be slow
        vocabulary[f"unused{number}"] = number
    (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "chat_template": TEMPLATE,
        "model_max_length": config["max_position_embeddings"],
    }
    write_json(folder / "tokenizer_config.json", settings)


def standard_library(max_files: int = 150) -> Iterator[str]:
    """Source files that come with Python, by name, so that every run learns the same merges."""
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:max_files]:
        yield file.read_text(encoding="utf-8", errors="replace")


def write_json(file: Path, value: dict[str, Any]) -> None:
    """Indented, with a newline at the end."""
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Write a checkpoint of random weights in a real shape.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--std", type=float, help="deviation of the matrices (default: 1 / sqrt(hidden size))")
    parser.add_argument("--max-shard-mb", type=int, default=320, help="largest file in MB (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    config = {**shape, "dtype": given.dtype, "bos_token_id": 0, "eos_token_id": 2, "attention_bias": False}
    given.folder.mkdir(parents=True, exist_ok=True)
    write_json(given.folder / "config.json", config)
    write_json(given.folder / "generation_config.json", {"eos_token_id": [2, 0], "temperature": 0.7, "top_p": 0.95})
    write_tokenizer(config, given.folder)
    std = shape["hidden_size"] ** -0.5 if given.std is None else given.std
    write_weights(config, given.folder, std=std, max_bytes=given.max_shard_mb * 10**6, seed=given.seed)


if __name__ == "__main__":
    main()
