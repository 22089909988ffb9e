"""Qwen3 with experts (Qwen Team, 2025), in all layers or in some."""

from __future__ import annotations

from torch import nn

from jackfield.layers.experts import ExpertNames, Experts
from jackfield.models.interface import Build
from jackfield.models.qwen3 import Qwen3


class Qwen3Moe(Qwen3):
    """Qwen3 whose feed-forward blocks are experts where the config says so."""

    def mlp(self, build: Build, layer: int) -> nn.Module:
        experts = build.config.experts
        if experts is None or layer not in experts.layers:
            return super().mlp(build, layer)
        return Experts(build, layer, ExpertNames())
