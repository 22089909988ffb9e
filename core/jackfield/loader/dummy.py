"""Random weights for a config without files (`--load-format dummy`), to measure with."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield.config.model_config import ModelConfig
from jackfield.loader.load import empty_model, packables
from jackfield.models.interface import Build, Model
from jackfield.models.registry import ModelRegistry
from jackfield_platforms.linear import ParamSpec, torch_dtype

_CHUNK = 2**24  # numbers made at a time, in float32
_BIAS_STD = 0.02


def dummy_model(config: ModelConfig, build: Build, *, seed: int = 0, registry: ModelRegistry | None = None) -> Model:
    """The model of `config` with seeded normal weights, scaled so that activations keep their size."""
    model = empty_model(config, build, registry)
    generator = torch.Generator().manual_seed(seed)
    for module in packables(model):
        module.pack({name: _random(spec, build.device, generator) for name, spec in module.params().items()})
    return model


def _random(spec: ParamSpec, device: torch.device, generator: torch.Generator) -> Tensor:
    """Ones for a norm, small numbers for a bias, deviation 1 / sqrt(inputs) for a matrix."""
    tensor = torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device=device)
    if spec.out_dim is None:
        return tensor.fill_(1)
    std = _BIAS_STD if len(spec.shape) == 1 else spec.shape[-1] ** -0.5
    for part in tensor.view(-1).split(_CHUNK):
        part.copy_(torch.randn(part.numel(), generator=generator).mul_(std))
    return tensor
