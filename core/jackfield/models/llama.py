"""Llama 1 to 3.3 (Touvron et al., 2023), and Mistral, which is Llama with a sliding window."""

from __future__ import annotations

from torch import Tensor, nn

from jackfield.layers.attention import Attention, attention_need
from jackfield.layers.decoder import DecoderLayer
from jackfield.layers.embedding import Vocabulary
from jackfield.layers.mlp import MLP
from jackfield.layers.norm import RMSNorm
from jackfield.layers.rope import rope_table
from jackfield.models.interface import Build, Hidden, Model, StepInputs
from jackfield_platforms.attention import AttentionNeed, Rope


class Llama(Model):
    """A decoder of pre-norm layers. Families that differ in their parts override `attention` and `mlp`."""

    def __init__(self, build: Build) -> None:
        super().__init__(build)
        config = build.config
        self.vocabulary = Vocabulary(build)
        self.layers = nn.ModuleList(
            DecoderLayer(build, i, self.attention(build, i), self.mlp(build, i)) for i in build.layers
        )
        self.norm = RMSNorm(build, "model.norm", config.hidden_size)
        max_positions = config.context_len if build.max_model_len is None else build.max_model_len
        self.rope_table = rope_table(config.rope, config.head_dim, max_positions).to(build.device)

    def attention(self, build: Build, layer: int) -> nn.Module:
        """The attention of decoder layer `layer`."""
        return Attention(build, layer)

    def mlp(self, build: Build, layer: int) -> nn.Module:
        """The feed-forward block of decoder layer `layer`."""
        return MLP(build, layer)

    def attention_needs(self) -> tuple[AttentionNeed, ...]:
        return tuple(attention_need(self.build, i) for i in self.build.layers)

    def embed(self, step: StepInputs) -> Hidden:
        return {"residual": self.vocabulary.embed(step.tokens)}

    def forward(self, hidden: Hidden, step: StepInputs) -> Hidden:
        partial: Tensor | None = None
        residual = hidden["residual"]
        rope = Rope(self.rope_table, step.positions)
        for layer in self.layers:
            partial, residual = layer(partial, residual, step, rope)
        assert partial is not None, "a model has layers"
        normed, _ = self.norm.add(partial, residual)
        return {"hidden": normed}

    def logits(self, rows: Tensor) -> Tensor:
        return self.vocabulary.logits(rows)
