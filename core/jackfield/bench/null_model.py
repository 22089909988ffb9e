"""A model that computes nothing, so that everything around a model can be timed: its logits are zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield.config.model_config import ModelConfig
from jackfield.config.rope_config import RopeConfig
from jackfield.models.interface import Build, Hidden, Model, StepInputs
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import Paged
from jackfield_platforms.linear import QuantMethod, TorchLinear
from jackfield_platforms.ops import OpSpec, resolve
from jackfield_platforms.platform import Platform

VOCAB = 64


class NullModel(Model):
    """One attention layer that is planned and never run."""

    def attention_needs(self) -> tuple[AttentionNeed, ...]:
        return (AttentionNeed(Paged(1, 8, 8, "float32"), query_heads=1, scale=1.0),)

    def embed(self, step: StepInputs) -> Hidden:
        return {"hidden": torch.zeros(len(step.tokens), 1, device=self.build.device)}

    def forward(self, hidden: Hidden, step: StepInputs) -> Hidden:
        return hidden

    def logits(self, rows: Tensor) -> Tensor:
        return torch.zeros(len(rows), VOCAB, device=self.build.device)


def null_model(platform: Platform, max_model_len: int) -> NullModel:
    """A `NullModel` on `platform`."""
    config = ModelConfig(
        architecture="NullModel",
        vocab_size=VOCAB,
        hidden_size=8,
        intermediate_size=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        rms_norm_eps=1e-6,
        rope=RopeConfig(),
        max_position_embeddings=max_model_len,
        tie_word_embeddings=True,
        attention_bias=False,
        mlp_bias=False,
        windows=(None,),
        dtype="float32",
        eos_token_ids=(),
        bos_token_id=None,
        default_sampling={},
    )
    build = Build(
        config=config,
        dtype=torch.float32,
        kv_dtype=torch.float32,
        device=platform.device(),
        capabilities=platform.capabilities(),
        ops=resolve(platform.ops(), OpSpec("float32")),
        linear_ops=(TorchLinear(),),
        comm=platform.communicator(),
        quant=_no_weights,
        layers=range(1),
    )
    return NullModel(build)


def _no_weights(layer: str) -> QuantMethod:
    raise AssertionError(f"a model without weights has no layer {layer}")
