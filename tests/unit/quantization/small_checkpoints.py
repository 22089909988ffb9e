"""Small random Llama checkpoints in any weight format, and greedy answers of the engine over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packed_tensors import Exact, Tensors
from safetensors.torch import save_file

from jackfield.config.options import EngineOptions
from jackfield.engine.build import build_engine
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.sampling_params import SamplingParams

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 199,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "dtype": "float32",
}
SIZES = {  # out, in
    "self_attn.q_proj": (128, 128),
    "self_attn.k_proj": (64, 128),
    "self_attn.v_proj": (64, 128),
    "self_attn.o_proj": (128, 128),
    "mlp.gate_proj": (256, 128),
    "mlp.up_proj": (256, 128),
    "mlp.down_proj": (128, 256),
}
FUSED = {"self_attn.qkv_proj": ["q_proj", "k_proj", "v_proj"], "mlp.gate_up_proj": ["gate_proj", "up_proj"]}
LINEARS = [f"model.layers.{layer}.{name}" for layer in range(CONFIG["num_hidden_layers"]) for name in SIZES]
Encode = Callable[[np.random.Generator, str, int, int], tuple[Tensors, Exact]]  # rng, name, out, in


def plain_linear(rng: np.random.Generator, name: str, out_size: int, in_size: int) -> tuple[Tensors, Exact]:
    """A float32 weight."""
    weight = (rng.standard_normal((out_size, in_size)) * 1.5 * in_size**-0.5).astype(np.float32)
    return {"weight": torch.from_numpy(weight)}, weight.astype(np.float64)


def tensors_of(encode: Encode, seed: int = 5) -> tuple[Tensors, dict[str, Exact]]:
    """Every tensor of a checkpoint whose linear layers `encode` makes, and what those stand for."""
    rng = np.random.default_rng(seed)
    vocabulary = {
        name: torch.from_numpy(rng.standard_normal((199, 128)).astype(np.float32) * size)
        for name, size in {"model.embed_tokens.weight": 1, "lm_head.weight": 0.3}.items()
    }
    norms = [f"model.layers.{i}.{name}_layernorm" for i in range(2) for name in ("input", "post_attention")]
    tensors = vocabulary | {f"{name}.weight": torch.ones(128) for name in (*norms, "model.norm")}
    exact = {}
    for name in LINEARS:
        stored, exact[name] = encode(rng, name, *SIZES[name.split(".", 3)[3]])
        tensors |= {f"{name}.{param}": tensor.contiguous() for param, tensor in stored.items()}
    return tensors, exact


def replaced(tensors: Tensors, exact: Mapping[str, Exact]) -> Tensors:
    """The same checkpoint with plain float32 weights in the linear layers."""
    rest = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in exact}
    return rest | {f"{name}.weight": torch.from_numpy(weight.astype(np.float32)) for name, weight in exact.items()}


def write(folder: Path, tensors: Tensors, quantization: Mapping[str, Any] | None = None) -> Path:
    """A folder with a config and one file of tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG if quantization is None else {**CONFIG, "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def engine_of(folder: Path, **options: Any) -> Engine:
    """An engine in float32."""
    given = {"dtype": "float32", "platform": "cpu", "max_num_seqs": 8, "kv_cache_memory": 16 << 20, **options}
    return build_engine(EngineOptions(model=str(folder), **given), progress=False)


def greedy(engine: Engine, num_tokens: int = 40) -> dict[str, list[int]]:
    """Answers to four prompts at once."""
    rng = np.random.default_rng(8)
    sampling = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True, seed=0)
    for length in (1, 3, 17, 60):
        engine.add(EngineRequest(str(length), rng.integers(0, 199, length).tolist(), sampling))
    answers: dict[str, list[int]] = {}
    while engine.has_work:
        for output in engine.step().each():
            answers.setdefault(output.id, []).extend(output.token_ids)
    assert all(len(answer) == num_tokens for answer in answers.values())
    assert len({token for answer in answers.values() for token in answer}) > 30, "answers that stand still prove little"
    return answers
