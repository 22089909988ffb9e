"""Mixtral (Jiang et al., 2024): Mistral with experts in every layer."""

from __future__ import annotations

from torch import nn

from jackfield.layers.experts import ExpertNames, Experts
from jackfield.models.interface import Build
from jackfield.models.llama import Llama

NAMES = ExpertNames(block="block_sparse_moe", gate="w1", up="w3", down="w2")


class Mixtral(Llama):
    """Llama whose feed-forward blocks are experts."""

    def mlp(self, build: Build, layer: int) -> nn.Module:
        return Experts(build, layer, NAMES)
