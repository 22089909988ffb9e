"""Models without an engine: a build for plain torch, and attention over one whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jackfield.config.model_config import ModelConfig, load_model_config
from jackfield.layers.experts import expert_layers
from jackfield.loader.load import load_model
from jackfield.models.interface import Build, Model, StepInputs
from jackfield_cpu.platform import CpuPlatform
from jackfield_platforms.attention import Rope
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.linear import TorchLinear
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_quantization.unquantized import Unquantized


def build_for(config: ModelConfig, max_model_len: int | None = None) -> Build:
    """Plain torch in float32."""
    return Build(
        config=config,
        dtype=torch.float32,
        kv_dtype=torch.float32,
        device=torch.device("cpu"),
        capabilities=Capabilities(dtypes=("float32",), kv_dtypes=("float32",)),
        ops=resolve(OpTable(), OpSpec("float32")),
        linear_ops=(TorchLinear(),),
        comm=SingleRank(),
        quant=lambda name: Unquantized(),
        layers=range(config.num_layers),
        max_model_len=max_model_len,
    )


def logits_of(model: Model, tokens: Tensor) -> Tensor:
    """`[tokens]` ids of one sequence to `[tokens, vocab]`."""
    needs = model.attention_needs()
    rotary = model.build.ops.rotary
    distance = torch.arange(len(tokens))[:, None] - torch.arange(len(tokens))

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None) -> Tensor:
        need = needs[layer]
        if rope is not None:
            q, k = rotary(q, k, rope.table, rope.positions, rope.interleaved)
        group = need.query_heads // need.kv.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * need.scale
        hidden = (distance < 0) | (distance >= getattr(need.kv, "window", len(tokens)))
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        return torch.einsum("hqk,khd->qhd", weights, v)

    positions = torch.arange(len(tokens))
    step = StepInputs(tokens=tokens, positions=positions, attend=attend)
    return model.logits(model.forward(model.embed(step), step)["hidden"])


@pytest.fixture
def our_logits() -> Callable[[Path, Tensor], Tensor]:
    """Logits of the checkpoint in a folder, served for exactly the sequence's length."""

    def compute(folder: Path, tokens: Tensor) -> Tensor:
        config = load_model_config(folder)
        model = load_model(config, build_for(config, max_model_len=len(tokens)), folder, progress=False)
        with torch.inference_mode():
            for experts in expert_layers(model):
                experts.choose(CpuPlatform())  # it has no product of weights in plain torch
            return logits_of(model, tokens)

    return compute
