"""DeepSeek-V2 and V3 with dense layers (DeepSeek-AI, 2024): Llama with latent attention."""

from __future__ import annotations

from jackfield.layers.latent_attention import LatentAttention, latent_need
from jackfield.models.interface import Build
from jackfield.models.llama import Llama
from jackfield_platforms.attention import AttentionNeed


class DeepSeek(Llama):
    """Llama whose layers keep one latent a token."""

    def attention(self, build: Build, layer: int) -> LatentAttention:
        return LatentAttention(build, layer)

    def attention_needs(self) -> tuple[AttentionNeed, ...]:
        return (latent_need(self.build),) * len(self.build.layers)
