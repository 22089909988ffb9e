"""Which tensor of a checkpoint goes where in a model; everything that does not fit is said at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from jackfield.layers.packable import Packable
from jackfield.loader.checkpoint import Checkpoint, LoadError, listed
from jackfield_platforms.linear import ParamSpec

# Computed here from the config, and stored by old checkpoints all the same
_IGNORED = re.compile(r"(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)")


class Target(msgspec.Struct, frozen=True):
    """A place for one stored tensor of `shape`: from `first` on along `out_dim` of a module's parameter."""

    module: Packable
    param: str
    shape: tuple[int, ...]
    out_dim: int = 0
    first: int = 0


def place(modules: Sequence[Packable], checkpoint: Checkpoint, model: str) -> dict[str, Target]:
    """The target of every tensor that is to be read, in the checkpoint's order.

    LoadError lists the tensors that are missing, that nobody takes, whose shape or dtype is not what `model` wants, and
    the copies of tied weights that differ.
    """
    targets = {name: target for module in modules for name, target in _targets(module, checkpoint)}
    copies = {copy: name for module in modules for copy, name in _copies(module, checkpoint)}
    missing = [name for name in targets if name not in checkpoint.tensors]
    known = targets.keys() | copies.keys()
    surplus = [name for name in checkpoint.tensors if name not in known and not _IGNORED.fullmatch(name)]
    problems = [f"missing: {listed(missing)}"] if missing else []
    problems += [f"not part of the model: {listed(surplus)}"] if surplus else []
    problems += [problem for name, target in targets.items() for problem in _misfits(name, target, checkpoint)]
    problems += [
        f"{copy} must equal {name}, to which the config ties it, and does not"
        for copy, name in copies.items()
        if not checkpoint.equal(copy, name)
    ]
    if problems:
        raise LoadError(f"The checkpoint in {checkpoint.folder} does not fit {model}:\n  " + "\n  ".join(problems))
    return {name: targets[name] for name in checkpoint.tensors if name in targets}


def _targets(module: Packable, checkpoint: Checkpoint) -> Iterator[tuple[str, Target]]:
    """(stored name, target): whole under the module's name or its alias, else piece by piece."""
    for param, spec in module.params().items():
        whole = f"{module.name}.{param}"
        if whole not in checkpoint.tensors and f"{module.alias}.{param}" in checkpoint.tensors:
            whole = f"{module.alias}.{param}"
        if whole in checkpoint.tensors or not module.parts or spec.out_dim is None:
            yield whole, Target(module, param, spec.shape)
        else:
            yield from _pieces(module, param, spec, spec.out_dim)


def _pieces(module: Packable, param: str, spec: ParamSpec, out_dim: int) -> Iterator[tuple[str, Target]]:
    parent, first = module.name.rpartition(".")[0], 0
    for part, size in module.parts.items():
        shape = (*spec.shape[:out_dim], size, *spec.shape[out_dim + 1 :])
        yield f"{parent}.{part}.{param}", Target(module, param, shape, out_dim, first)
        first += size


def _copies(module: Packable, checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """(stored name, its original) of tied weights that a checkpoint holds twice."""
    for param in module.params() if module.alias else ():
        names = (f"{module.alias}.{param}", f"{module.name}.{param}")
        if all(name in checkpoint.tensors for name in names):
            yield names


def _misfits(name: str, target: Target, checkpoint: Checkpoint) -> Iterator[str]:
    stored = checkpoint.tensors.get(name)
    if stored is None:
        return
    if stored.shape != target.shape:
        yield f"{name}: wanted shape {list(target.shape)}, found {list(stored.shape)} in {stored.file.name}"
    if not stored.is_float:
        yield f"{name}: wanted plain floats, found {stored.dtype} in {stored.file.name}"
