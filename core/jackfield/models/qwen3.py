"""Qwen3, dense (Qwen Team, 2025): Llama whose queries and keys are normed head by head."""

from __future__ import annotations

from jackfield.layers.attention import Attention
from jackfield.models.interface import Build
from jackfield.models.llama import Llama


class Qwen3(Llama):
    """Llama with an RMSNorm on each head of q and k."""

    def attention(self, build: Build, layer: int) -> Attention:
        return Attention(build, layer, qk_norm=True)
