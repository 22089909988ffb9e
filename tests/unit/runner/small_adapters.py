"""LoRA adapters on disk as PEFT writes them, and the same adapters merged into an engine's weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from small_engines import FIELDS
from torch import Tensor

from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.layers.lora_slots import adapted
from jackfield.loader.adapter import adapter_places
from jackfield.lora_request import LoRARequest
from jackfield.sampling_params import SamplingParams

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HIDDEN, INNER, DIM = FIELDS["hidden_size"], FIELDS["intermediate_size"], FIELDS["head_dim"]
QUERIES, KEYS = FIELDS["num_attention_heads"] * DIM, FIELDS["num_key_value_heads"] * DIM
SHAPES = {  # in, out
    "q_proj": (HIDDEN, QUERIES),
    "k_proj": (HIDDEN, KEYS),
    "v_proj": (HIDDEN, KEYS),
    "o_proj": (QUERIES, HIDDEN),
    "gate_proj": (HIDDEN, INNER),
    "up_proj": (HIDDEN, INNER),
    "down_proj": (INNER, HIDDEN),
}


def layer_name(number: int, projection: str) -> str:
    block = "self_attn" if projection in ALL[:4] else "mlp"
    return f"model.layers.{number}.{block}.{projection}"


class SmallAdapter:
    """Random and large enough that answers change."""

    def __init__(self, folder: Path, id: int, rank: int = 4, targets: tuple[str, ...] = ALL, **config: Any) -> None:
        self.request = LoRARequest(f"adapter-{id}", id, str(folder))
        generator = torch.Generator().manual_seed(id)
        names = [layer_name(number, target) for number in range(FIELDS["num_hidden_layers"]) for target in targets]
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for name in names:
            inputs, outputs = SHAPES[name.rpartition(".")[2]]
            a = torch.randn(rank, inputs, generator=generator) * inputs**-0.5
            self.pairs[name] = a, torch.randn(outputs, rank, generator=generator) * rank**-0.5
        fields = {"peft_type": "LORA", "r": rank, "lora_alpha": 6 * rank, "target_modules": list(targets), **config}
        self.scale = fields["lora_alpha"] / (math.sqrt(rank) if fields.get("use_rslora") else rank)
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(fields))
        self.write(folder)

    def write(self, folder: Path, **more: Tensor) -> None:
        """The tensors, under PEFT's names; `more` has full names."""
        stored = {
            f"base_model.model.{name}.lora_{side}.weight": tensor
            for name, pair in self.pairs.items()
            for side, tensor in zip("AB", pair, strict=True)
        }
        save_file({**stored, **more}, folder / "adapter_model.safetensors")

    @torch.inference_mode()
    def merge_into(self, engine: Engine) -> None:
        """W + scale * B A, in place."""
        places = adapter_places(adapted(engine._executor._programs._model))
        for name, (a, b) in self.pairs.items():
            place = places[name]
            first = sum(place.linear.spec.out_sizes[: place.part])
            place.linear.packed.data[first : first + len(b)] += self.scale * (b @ a)


def add(engine: Engine, id: str, prompt: list[int], adapter: SmallAdapter | None, num_tokens: int = 16) -> None:
    """Ask for a greedy answer."""
    sampling = SamplingParams(temperature=0, max_tokens=num_tokens, seed=0)
    engine.add(EngineRequest(id, prompt, sampling, lora=None if adapter is None else adapter.request))
