"""Tokens out of one cache and into another one: another block size, other blocks, every number in its place.

What was written is known from the scene, so that an export is compared with that and not with an import that may be
wrong in the same way. Whatever is not written stays the NaN with which the scene filled it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from jackfield_platforms.attention import LayerKV
from jackfield_platforms.kv import Latent
from jackfield_platforms.kv_tokens import KVTokens
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.testing.conformance.attention_cases import AttentionCase, block_sizes, plain_attention
from jackfield_platforms.testing.conformance.mismatch import expect
from jackfield_platforms.testing.conformance.scene import Scene, Tokens
from jackfield_platforms.testing.conformance.subject import Subject

_LENGTHS = (37, 21, 50)


def exporting(subject: Subject) -> Iterator[tuple[str, AttentionCase]]:
    """Where the backend exports tokens."""
    return ((name, case) for name, case in plain_attention(subject) if case.backend.exports)


@torch.inference_mode()
def check_exported_tokens_are_what_was_written(exporting: AttentionCase, seed: int) -> None:
    """Random tokens of several sequences, in random order: each number is the one that `run` was given."""
    scene = _filled(exporting, seed)
    chosen = [scene.rng.permutation(length)[: length // 2] for length in _LENGTHS]
    slots = np.concatenate([_slots(scene, index, places) for index, places in enumerate(chosen)])
    exported = scene.backend.export_tokens([scene.layer, scene.layer], slots)
    header = exported.header
    expect(header.kv == scene.need.kv, f"the header says {header.kv}; the layer is {scene.need.kv}")
    counts = (header.num_layers, header.num_tokens)
    expect(counts == (2, len(slots)), f"the header says {counts} layers and tokens; wanted {(2, len(slots))}")
    wanted = [_written(sequence, scene, places) for sequence, places in zip(scene.sequences, chosen, strict=True)]
    for name in scene.need.kv.parts:
        whole = torch.cat([parts[name] for parts in wanted])
        for layer in range(2):
            _same(exported.tensors[name][layer], whole, f"{name} of layer {layer}")


@torch.inference_mode()
def check_imported_tokens_answer_as_if_computed(exporting: AttentionCase, seed: int) -> None:
    """A cache of another block size takes tokens in: sequences go on there, and other blocks hold what they held."""
    source, other = _filled(exporting, seed), _another_size(exporting)
    target = Scene(other, [length + 1 for length in _LENGTHS], seed)
    tokens = _of_sequence(source, 0, _LENGTHS[0])
    doubled = {name: _with_opposite(x).cpu() for name, x in tokens.tensors.items()}  # a second layer, unlike the first
    host = KVTokens(msgspec.structs.replace(tokens.header, num_layers=2), doubled)
    layers = [target.layer, LayerKV(target.backend.allocate(target.num_blocks))]
    slots = _slots(target, 0, np.arange(_LENGTHS[0]))
    target.backend.import_tokens(layers, slots, host)
    back = target.backend.export_tokens(layers, slots)
    for name, x in host.tensors.items():
        _same(back.tensors[name], x, f"{name} imported into blocks of {other.block_size}")
    _expect_poison(target, except_for=slots)
    target.sequences[0].done = _LENGTHS[0]
    target.step([(0, 1)])


@torch.inference_mode()
def check_copied_blocks_hold_the_same(exporting: AttentionCase, seed: int) -> None:
    """Blocks of one sequence into blocks of nobody, and two that change places: the others are untouched."""
    scene = _filled(exporting, seed)
    nobody = sorted(set(range(1, scene.num_blocks)) - {int(b) for s in scene.sequences for b in s.blocks})
    one, other = int(scene.sequences[0].blocks[0]), int(scene.sequences[1].blocks[0])
    pairs = [(one, nobody[0]), (one, other), (other, one)]
    before = _all_blocks(scene)
    scene.backend.copy_blocks([scene.layer], np.array(pairs, np.int64))
    after = _all_blocks(scene)
    wanted = {name: blocks.clone() for name, blocks in before.items()}
    for name, blocks in wanted.items():
        for source, place in pairs:
            blocks[place] = before[name][source]
        _same(after[name][1:], blocks[1:], f"{name} after the copies {pairs}, block 1 first")


@torch.inference_mode()
def check_tokens_that_do_not_fit_are_refused(exporting: AttentionCase, seed: int) -> None:
    """Another number of tokens, another kind, a scale, tensors unlike the header: ValueError, and nothing written."""
    scene = _filled(exporting, seed)
    tokens = _of_sequence(scene, 0, 8)
    target = Scene(exporting, _LENGTHS, seed)
    slots = _slots(target, 0, np.arange(8))
    changes: list[dict[str, Any]] = [
        {"num_layers": 2},
        {"num_tokens": 9},
        {"scale": 2.0},
        {"kv": Latent(5, 3, "float32")},
    ]
    wrong = [replace(tokens, header=msgspec.structs.replace(tokens.header, **change)) for change in changes]
    wrong.append(replace(tokens, tensors={name: x[:, :4] for name, x in tokens.tensors.items()}))
    for unfit in wrong:
        try:
            target.backend.import_tokens([target.layer], slots, unfit)
        except ValueError:
            continue
        expect(False, f"tokens of {unfit.header} were taken for 8 tokens of one layer of {scene.need.kv}")
    _expect_poison(target, except_for=np.zeros(0, np.int64))


def _filled(case: AttentionCase, seed: int) -> Scene:
    scene = Scene(case, [length + 1 for length in _LENGTHS], seed)
    scene.fill(_LENGTHS)
    return scene


def _another_size(case: AttentionCase) -> AttentionCase:
    """The same need in blocks of another size, where the backend has one."""
    sizes = block_sizes(case.backend)
    return msgspec.structs.replace(case, block_size=next((s for s in sizes if s != case.block_size), case.block_size))


def _slots(scene: Scene, index: int, places: Any) -> Any:
    blocks, size = scene.sequences[index].blocks.astype(np.int64), scene.block_size
    return blocks[places // size] * size + places % size


def _of_sequence(scene: Scene, index: int, length: int) -> KVTokens:
    return scene.backend.export_tokens([scene.layer], _slots(scene, index, np.arange(length)))


def _written(sequence: Tokens, scene: Scene, places: Any) -> Mapping[str, Tensor]:
    """What tokens of a sequence are in the cache, by part, in the cache's dtype."""
    dtype = torch_dtype(scene.need.kv.dtype)
    parts = {"latent": sequence.k} if isinstance(scene.need.kv, Latent) else {"k": sequence.k, "v": sequence.v}
    return {name: x[torch.from_numpy(places)].to(dtype) for name, x in parts.items()}


def _all_blocks(scene: Scene) -> dict[str, Tensor]:
    """Everything that a cache holds, `[num_blocks, block_size, heads, dim]` by part, on the host."""
    slots = np.arange(scene.num_blocks * scene.block_size)
    tensors = scene.backend.export_tokens([scene.layer], slots).tensors
    return {name: x[0].cpu().unflatten(0, (scene.num_blocks, scene.block_size)) for name, x in tensors.items()}


def _expect_poison(scene: Scene, *, except_for: Any) -> None:
    """Whatever else the cache holds is the NaN that the scene filled it with."""
    for name, blocks in _all_blocks(scene).items():
        by_slot = blocks.flatten(0, 1)
        others = torch.ones(len(by_slot), dtype=torch.bool)
        others[torch.from_numpy(np.asarray(except_for, np.int64))] = False
        others[: scene.block_size] = False  # the null block
        touched = others & ~by_slot.float().isnan().flatten(1).all(1)
        expect(not touched.any(), f"{name}: slots {touched.nonzero()[:8, 0].tolist()} were written and are nobody's")


def _with_opposite(x: Tensor) -> Tensor:
    """x and -x. torch does not negate 8-bit floats."""
    return torch.cat((x.float(), -x.float())).to(x.dtype)


def _same(got: Tensor, wanted: Tensor, what: str) -> None:
    """Every number equal, NaN where NaN is wanted."""
    found, wanted = got.cpu().float(), wanted.float()  # which holds every number of a cache, and compares them
    expect(found.shape == wanted.shape, f"{what}: wanted shape {tuple(wanted.shape)}, found {tuple(found.shape)}")
    wrong = (found != wanted) & ~(found.isnan() & wanted.isnan())
    if wrong.any():
        first = tuple(int(place) for place in wrong.nonzero()[0])
        pair = f"wanted {wanted[first].item():.7g}, found {found[first].item():.7g}"
        expect(False, f"{what}: at {first} {pair}; {int(wrong.sum())} of {wrong.numel()} numbers differ")
