"""Filling a model from a checkpoint, each module packed as soon as its last tensor has arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from jackfield.config.model_config import ModelConfig
from jackfield.layers.packable import Packable
from jackfield.loader.checkpoint import Checkpoint
from jackfield.loader.host_heap import HostHeap
from jackfield.loader.placement import Piece, Target, place
from jackfield.models.interface import Build, Model
from jackfield.models.registry import ModelRegistry
from jackfield.progress import progress_bar
from jackfield_platforms.linear import torch_dtype


def load_model(
    config: ModelConfig, build: Build, path: Path, *, progress: bool = True, registry: ModelRegistry | None = None
) -> Model:
    """The model of `config` with the weights of the folder at `path`, converted to `build.dtype`, on `build.device`.

    Of a model that is shared among ranks, a rank reads its own part. Peak memory is what the packed model takes, plus
    its largest module and up to 64 MiB of heap that modules freed. `progress` draws a bar if stderr is a terminal.
    LoadError names every tensor that is missing, surplus, or of a wrong shape; nothing is read before all fit.
    """
    model = empty_model(config, build, registry)
    checkpoint = Checkpoint(path)
    targets = place(packables(model), checkpoint, config.architecture)
    filler = Filler(targets.values(), build.device)
    num_bytes = sum(checkpoint.tensors[name].item_bytes * target.num_read for name, target in targets.items())
    with progress_bar("Loading weights", num_bytes, shown=progress, in_bytes=True) as advance:
        for name, target in targets.items():
            for piece in target.pieces:
                for row, chunk in checkpoint.chunks(name, piece.box):
                    filler.write(target, piece, row, chunk)
                    advance(chunk.nbytes)
                    del chunk  # a view of the mapped file
            filler.finish(target)
    filler.heap.give_back()
    return model


def empty_model(config: ModelConfig, build: Build, registry: ModelRegistry | None = None) -> Model:
    """The model without weights."""
    return (registry or ModelRegistry()).model_class(config.architecture)(build).eval()


def packables(model: Model) -> list[Packable]:
    """The modules that hold weights, in the model's own order."""
    return [module for module in model.modules() if isinstance(module, Packable)]


class Filler:
    """Owns the tensors of modules that are not complete yet."""

    def __init__(self, targets: Iterable[Target], device: torch.device) -> None:
        self.device = device
        self.missing = Counter(target.module for target in targets)
        self.params: dict[Packable, dict[str, Tensor]] = {}
        self.heap = HostHeap()

    def write(self, target: Target, piece: Piece, row: int, chunk: Tensor) -> None:
        """Copy rows `row : row + len(chunk)` of a piece to their place."""
        first, *others = piece.place
        starts = (first + row, *others)
        self._param(target)[tuple(map(_span, starts, chunk.shape))].copy_(chunk)

    def finish(self, target: Target) -> None:
        """One stored tensor is all there; pack its module if it was the last."""
        self._param(target)  # of a tensor of which nothing is this rank's, only padding
        self.missing[target.module] -= 1
        if self.missing[target.module] == 0:
            params = self.params.pop(target.module)
            num_bytes = sum(param.nbytes for param in params.values())
            target.module.pack(params)
            self.heap.freed(num_bytes)

    def _param(self, target: Target) -> Tensor:
        params = self.params.setdefault(target.module, {})
        if target.param not in params:
            spec = target.module.params()[target.param]
            make = torch.zeros if target.is_padded else torch.empty
            params[target.param] = make(spec.shape, dtype=torch_dtype(spec.dtype), device=self.device)
        return params[target.param]


def _span(start: int, size: int) -> slice:
    return slice(start, start + size)
