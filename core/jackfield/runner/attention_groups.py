"""Layers that keep the same kind of keys and values share a group: one backend, one block table, one plan a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield.config.json_fields import ConfigError
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Windowed
from jackfield_platforms.kv_tokens import KVTokens
from jackfield_platforms.ops import Ops
from jackfield_platforms.refusal import Choice, Refused, choose

Backend = AttentionBackend[Any]
Ints = npt.NDArray[np.int64]


class AttentionGroup(msgspec.Struct, frozen=True):
    """One KV group: its layers (places in `Model.attention_needs()`), its backend and why better ones refused."""

    need: AttentionNeed
    layers: tuple[int, ...]
    backend: Backend
    refusals: tuple[tuple[str, str], ...]

    @property
    def window(self) -> int | None:
        """Tokens that a layer looks back at, or None: all."""
        return self.need.kv.window if isinstance(self.need.kv, Windowed) else None

    @property
    def block_bytes(self) -> int:
        """Bytes that one block takes in all layers of the group."""
        return len(self.layers) * self.backend.block_bytes(self.need.kv, self.backend.block_size)


def make_groups(
    needs: Sequence[AttentionNeed],
    backends: Sequence[type[Backend]],
    block_size: int | None,
    *,
    device: torch.device,
    ops: Ops,
) -> tuple[AttentionGroup, ...]:
    """Group equal needs, full attention first, and choose a backend for each; Refused tells why when none can serve."""
    groups = []
    for need, members in layers_by_need(needs).items():
        choice = choose_backend(need, backends)
        size = _block_size(choice.taken, block_size)
        backend = choice.taken(need, size, device=device, ops=ops)
        groups.append(AttentionGroup(need, members, backend, choice.refusals))
    return tuple(groups)


def layers_by_need(needs: Sequence[AttentionNeed]) -> dict[AttentionNeed, tuple[int, ...]]:
    """The layers of each need that occurs, full attention first."""
    ordered = sorted(dict.fromkeys(needs), key=lambda need: isinstance(need.kv, Windowed))
    return {need: tuple(layer for layer, one in enumerate(needs) if one == need) for need in ordered}


def choose_backend(need: AttentionNeed, backends: Sequence[type[Backend]]) -> Choice[type[Backend]]:
    """The first backend that does not refuse the need; Refused tells why when none can serve."""
    return choose(
        f"attention ({need})", backends, lambda backend: backend.objection(need), lambda backend: backend.name
    )


def _block_size(backend: type[Backend], wanted: int | None) -> int:
    if wanted is None:
        return backend.block_sizes[0]
    if wanted not in backend.block_sizes:
        sizes = ", ".join(map(str, sorted(backend.block_sizes)))
        raise ConfigError(f"block_size must be one of {sizes} with attention backend {backend.name!r}; got {wanted}")
    return wanted


class PagedAttention:
    """The `attend` of every step: finds a layer's group and cache, and runs the backend with the group's plan."""

    def __init__(self, groups: Sequence[AttentionGroup], num_blocks: Sequence[int]) -> None:
        self._groups = tuple(groups)
        self._layers: dict[int, tuple[Backend, LayerKV, int]] = {}
        for index, (group, blocks) in enumerate(zip(groups, num_blocks, strict=True)):
            for layer in group.layers:
                self._layers[layer] = (group.backend, LayerKV(group.backend.allocate(blocks)), index)

    def export_tokens(self, slots: Sequence[Ints]) -> tuple[KVTokens, ...]:
        """The tokens at `slots` of each group's cache, on the device. Refused where a backend does not export."""
        return tuple(
            self._backend(index).export_tokens(self._caches(index), places) for index, places in enumerate(slots)
        )

    def import_tokens(self, slots: Sequence[Ints], tokens: Sequence[KVTokens]) -> None:
        """Write tokens to `slots` of each group's cache; ValueError, before any is written, when they do not fit."""
        for index, (places, group_tokens) in enumerate(zip(slots, tokens, strict=True)):
            group_tokens.check(self._backend(index).need.kv, len(self._caches(index)), len(places))
        for index, (places, group_tokens) in enumerate(zip(slots, tokens, strict=True)):
            self._backend(index).import_tokens(self._caches(index), places, group_tokens)

    def _backend(self, group: int) -> Backend:
        backend = self._groups[group].backend
        if not backend.exports:
            raise Refused(
                f"Attention backend {backend.name!r} neither exports nor imports tokens; an engine whose backend does "
                "(`AttentionBackend.exports`) can exchange KV"
            )
        return backend

    def _caches(self, group: int) -> list[LayerKV]:
        return [self._layers[layer][1] for layer in self._groups[group].layers]

    def uncapturable(self, bucket: Bucket) -> dict[int, str]:
        """Layers whose attention may be in no capture at `bucket`, each with the name of its backend."""
        return {
            layer: backend.name for layer, (backend, _, _) in self._layers.items() if not backend.may_capture(bucket)
        }

    def inelastic(self) -> list[str]:
        """Names of the backends whose attention may be in no capture of any size."""
        return sorted({backend.name for backend, _, _ in self._layers.values() if not backend.elastic})

    def bind(self, plans: Sequence[Any]) -> BoundAttention:
        """Attention with the plans of one launch, one a group."""
        return BoundAttention(self._layers, plans)


@dataclass(frozen=True)
class BoundAttention:
    """`Attend` for one launch. Its tensors can be found: a graph runner must know what a program reads."""

    layers: dict[int, tuple[Backend, LayerKV, int]]
    plans: Sequence[Any]  # one a KV group

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None) -> Tensor:
        backend, layer_kv, group = self.layers[layer]
        return backend.run(q, k, v, layer_kv, self.plans[group], rope)
