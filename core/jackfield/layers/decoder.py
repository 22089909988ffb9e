"""A pre-norm decoder layer. Each residual addition is joined with the norm that follows it.

A platform may have a whole layer in one call; it is asked once, when the layer's weights are packed.
"""

from __future__ import annotations

from torch import Tensor, nn

from jackfield.layers.norm import RMSNorm
from jackfield.models.interface import Build, StepInputs
from jackfield_platforms.attention import Rope
from jackfield_platforms.fusion import LayerFn


class DecoderLayer(nn.Module):
    """`attention(x, step, rope)`, then the feed-forward block. `partial` is the last sum of the layer before, not added
    yet.
    """

    fused: LayerFn | None  # the platform's own form of this layer, see `jackfield.layers.fused_decoder`

    def __init__(self, build: Build, layer: int, attention: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        name, size = f"model.layers.{layer}", build.config.hidden_size
        self.input_layernorm = RMSNorm(build, f"{name}.input_layernorm", size)
        self.self_attn = attention
        self.post_attention_layernorm = RMSNorm(build, f"{name}.post_attention_layernorm", size)
        self.mlp = mlp
        self.number, self.fused = layer, None

    def forward(self, partial: Tensor | None, residual: Tensor, step: StepInputs, rope: Rope) -> tuple[Tensor, Tensor]:
        """(partial, residual), both `[tokens, hidden]`, to the same after this layer."""
        if self.fused is not None:
            return self.fused(partial, residual, step.attend, rope)
        if partial is None:
            x = self.input_layernorm(residual)
        else:
            x, residual = self.input_layernorm.add(partial, residual)
        x, residual = self.post_attention_layernorm.add(self.self_attn(x, step, rope), residual)
        return self.mlp(x, step), residual
