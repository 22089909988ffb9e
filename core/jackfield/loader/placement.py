"""Which tensor of a checkpoint goes where in a model; everything that does not fit is said at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from jackfield.layers.packable import Packable
from jackfield.loader.checkpoint import PLAIN, Checkpoint, LoadError, listed
from jackfield_platforms.linear import ParamSpec, torch_dtype

# Computed here from the config, and stored by old checkpoints all the same
_IGNORED = re.compile(r"(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)")


class Target(msgspec.Struct, frozen=True):
    """A place for one stored tensor of `shape`: from `first` on along `out_dim` of a module's parameter."""

    module: Packable
    param: str
    shape: tuple[int, ...]
    dtype: str
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
        f"{copy} must equal {name}, with which it is held as one, and does not"
        for copy, name in copies.items()
        if not checkpoint.equal(copy, name)
    ]
    if problems:
        raise LoadError(f"The checkpoint in {checkpoint.folder} does not fit {model}:\n  " + "\n  ".join(problems))
    return {name: targets[name] for name in checkpoint.tensors if name in targets}


def _targets(module: Packable, checkpoint: Checkpoint) -> Iterator[tuple[str, Target]]:
    """(stored name, target) of what a module takes; an optional parameter of which nothing is stored has none."""
    for param, spec in module.params().items():
        found = list(_placed(module, param, spec, checkpoint))
        if not spec.optional or any(name in checkpoint.tensors for name, _ in found):
            yield from found


def _placed(module: Packable, param: str, spec: ParamSpec, checkpoint: Checkpoint) -> Iterator[tuple[str, Target]]:
    """Whole under the module's name or its alias, else piece by piece."""
    whole = f"{module.name}.{param}"
    if whole not in checkpoint.tensors and f"{module.alias}.{param}" in checkpoint.tensors:
        whole = f"{module.alias}.{param}"
    if not module.parts or (whole in checkpoint.tensors and spec.whole):
        yield whole, Target(module, param, spec.shape, spec.dtype)
    elif spec.out_dim is None:
        yield from ((name, Target(module, param, spec.shape, spec.dtype)) for name in _part_names(module, param))
    else:
        yield from _pieces(module, param, spec, spec.out_dim)


def _pieces(module: Packable, param: str, spec: ParamSpec, out_dim: int) -> Iterator[tuple[str, Target]]:
    first = 0
    for name, size in zip(_part_names(module, param), spec.out_sizes or module.parts.values(), strict=True):
        shape = (*spec.shape[:out_dim], size, *spec.shape[out_dim + 1 :])
        yield name, Target(module, param, shape, spec.dtype, out_dim, first)
        first += size


def _part_names(module: Packable, param: str) -> list[str]:
    parent = module.name.rpartition(".")[0]
    return [f"{parent}.{part}.{param}" for part in module.parts]


def _copies(module: Packable, checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """(stored name, its original) of what a checkpoint holds more than once: tied weights, what parts share."""
    for param, spec in module.params().items():
        names = _part_names(module, param) if spec.out_dim is None else []
        names = [f"{module.name}.{param}", f"{module.alias}.{param}"] if module.alias else names
        held = [name for name in names if name in checkpoint.tensors]
        yield from ((copy, held[0]) for copy in held[1:])


def _misfits(name: str, target: Target, checkpoint: Checkpoint) -> Iterator[str]:
    stored = checkpoint.tensors.get(name)
    if stored is None:
        return
    if stored.shape != target.shape:
        yield f"{name}: wanted shape {list(target.shape)}, found {list(stored.shape)} in {stored.file.name}"
    if not stored.converts_to(torch_dtype(target.dtype)):
        wanted = "plain floats" if target.dtype in PLAIN else target.dtype
        yield f"{name}: wanted {wanted}, found {stored.dtype} in {stored.file.name}"
