"""Which tensor of a checkpoint goes where in a model; everything that does not fit is said at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import msgspec

from jackfield.layers.packable import Packable
from jackfield.layers.shards import Shard
from jackfield.loader.checkpoint import PLAIN, Box, Checkpoint, LoadError, listed
from jackfield_platforms.linear import ParamSpec, torch_dtype

# Computed here from the config, and stored by old checkpoints all the same
_IGNORED = re.compile(r"(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)")


class Piece(msgspec.Struct, frozen=True):
    """A part of a stored tensor, and where it begins in the parameter; an entry a dimension."""

    box: Box
    place: tuple[int, ...]


class Target(msgspec.Struct, frozen=True):
    """A place for one stored tensor of `shape`: pieces of it go into a module's parameter."""

    module: Packable
    param: str
    shape: tuple[int, ...]
    dtype: str
    pieces: tuple[Piece, ...]
    is_padded: bool = False  # whether no piece fills the parameter's end

    @property
    def num_read(self) -> int:
        """Numbers that are read."""
        return sum(math.prod(last - first for first, last in piece.box) for piece in self.pieces)


def place(modules: Sequence[Packable], checkpoint: Checkpoint, model: str) -> dict[str, Target]:
    """The target of every tensor that is to be read, in the checkpoint's order.

    LoadError lists the tensors that are missing, that nobody takes, whose shape or dtype is not what `model` wants, and
    the copies of tied weights that differ.
    """
    targets = {name: target for module in modules for name, target in _targets(module, checkpoint)}
    copies = {copy: name for module in modules for copy, name in _copies(module, checkpoint)}
    missing = [name for name in targets if name not in checkpoint.tensors]
    elsewhere = {f"{module.name}.{param}" for module in modules for param in module.elsewhere}
    known = targets.keys() | copies.keys() | elsewhere
    surplus = [name for name in checkpoint.tensors if name not in known and not _IGNORED.fullmatch(name)]
    problems = [f"missing: {listed(missing)}"] if missing else []
    problems += [f"not part of the model: {listed(surplus)}"] if surplus else []
    problems += [problem for name, target in targets.items() for problem in _misfits(name, target, checkpoint)]
    problems += [
        f"{copy} must equal {name}, with which it is held as one, and does not"
        for copy, name in copies.items()
        if name in targets and not _agree(copy, name, targets[name], checkpoint)
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
    is_whole = not module.parts or (whole in checkpoint.tensors and spec.whole)
    names = [whole] if is_whole else _part_names(module, param)
    if spec.out_dim is None:
        yield from ((name, _target(module, param, spec, ())) for name in names)
        return
    shards = module.out_shards or [Shard(0, size, size) for size in _sizes(module, spec, spec.out_dim)]
    if is_whole:
        yield whole, _target(module, param, spec, shards)
        return
    first = 0
    for name, shard in zip(names, shards, strict=True):
        yield name, _target(module, param, spec, (shard,), first)
        first += shard.size


def _sizes(module: Packable, spec: ParamSpec, out_dim: int) -> Sequence[int]:
    """The parts of a parameter along `out_dim`."""
    return spec.out_sizes or tuple(module.parts.values()) or (spec.shape[out_dim],)


def _target(module: Packable, param: str, spec: ParamSpec, shards: Sequence[Shard], first: int = 0) -> Target:
    """A tensor that stores `shards` side by side, each whole, and goes to `first` on along `out_dim`."""
    others = [Shard(0, size, size) for size in spec.shape]
    if module.in_shard is not None and spec.out_dim is not None and len(spec.shape) == 2:
        others[1 - spec.out_dim] = module.in_shard
    shape = [shard.whole for shard in others]
    box, place = [shard.stored for shard in others], [0] * len(shape)
    if spec.out_dim is None:
        return Target(module, param, tuple(shape), spec.dtype, (Piece(tuple(box), tuple(place)),))
    pieces, stored = [], 0
    for shard in shards:
        begin, end = shard.stored
        box[spec.out_dim], place[spec.out_dim] = (stored + begin, stored + end), first
        pieces.append(Piece(tuple(box), tuple(place)))
        stored, first = stored + shard.whole, first + shard.size
    shape[spec.out_dim] = stored
    return Target(module, param, tuple(shape), spec.dtype, tuple(pieces), any(shard.is_padded for shard in shards))


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


def _agree(copy: str, name: str, target: Target, checkpoint: Checkpoint) -> bool:
    """Whether a copy holds the same, in what is read here; a tensor of a wrong shape is told as such."""
    fits = checkpoint.tensors[name].shape == target.shape
    return not fits or checkpoint.equal(copy, name, [piece.box for piece in target.pieces])


def _misfits(name: str, target: Target, checkpoint: Checkpoint) -> Iterator[str]:
    stored = checkpoint.tensors.get(name)
    if stored is None:
        return
    if stored.shape != target.shape:
        yield f"{name}: wanted shape {list(target.shape)}, found {list(stored.shape)} in {stored.file.name}"
    if not stored.converts_to(torch_dtype(target.dtype)):
        wanted = "plain floats" if target.dtype in PLAIN else target.dtype
        yield f"{name}: wanted {wanted}, found {stored.dtype} in {stored.file.name}"
