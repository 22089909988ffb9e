"""Random weights for a config without files (`--load-format dummy`), to measure with."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield.config.json_fields import ConfigError
from jackfield.config.model_config import ModelConfig
from jackfield.layers.packable import Packable
from jackfield.loader.checkpoint import PLAIN
from jackfield.loader.load import empty_model, packables
from jackfield.models.interface import Build, Model
from jackfield.models.registry import ModelRegistry
from jackfield_platforms.linear import ParamSpec, torch_dtype

_CHUNK = 2**24  # numbers made at a time, in float32
_BIAS_STD = 0.02


def dummy_model(config: ModelConfig, build: Build, *, seed: int = 0, registry: ModelRegistry | None = None) -> Model:
    """The model of `config` with seeded normal weights, scaled so that activations keep their size.

    ConfigError when a layer wants tensors of a quantised checkpoint.
    """
    model = empty_model(config, build, registry)
    _check(packables(model))
    generator = torch.Generator().manual_seed(seed)
    for module in packables(model):
        module.pack({name: _random(spec, build.device, generator) for name, spec in module.params().items()})
    return model


def _check(modules: list[Packable]) -> None:
    for module in modules:
        for name, spec in module.params().items():
            if spec.dtype not in PLAIN:
                raise ConfigError(
                    f"load_format='dummy' makes plain weights; {module.name}.{name} is {spec.dtype}, as the config's "
                    "quantization_config wants it. Remove that field; the option quantization converts plain weights"
                )


def _random(spec: ParamSpec, device: torch.device, generator: torch.Generator) -> Tensor:
    """Ones for a norm, small numbers for a bias, deviation 1 / sqrt(inputs) for a matrix."""
    tensor = torch.empty(spec.shape, dtype=torch_dtype(spec.dtype), device=device)
    if spec.out_dim is None:
        return tensor.fill_(1)
    std = _BIAS_STD if len(spec.shape) == 1 else spec.shape[-1] ** -0.5
    for part in tensor.view(-1).split(_CHUNK):
        part.copy_(torch.randn(part.numel(), generator=generator).mul_(std))
    return tensor
