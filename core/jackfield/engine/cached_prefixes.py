"""Cached prefixes on their way out of one engine and into another: which cache slots they lie in, which they get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from jackfield.engine.kv_blocks import KVBlocks
from jackfield.engine.prefix_index import extend_hashes, longest_common, root_hash
from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.step import Int32s

if TYPE_CHECKING:
    from jackfield_platforms.kv_tokens import KVTokens  # imports torch, for which a launch must be prepared first

Slots = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ExportedPrefix:
    """The KV of a prompt's first tokens, on the host. It fits every engine of the same weights, whatever its device."""

    token_ids: tuple[int, ...]
    cache_salt: str
    firsts: tuple[int, ...]  # one a KV group: the first token that is held; those before it left the window
    groups: tuple[KVTokens, ...]  # one a KV group: tokens `first : len(token_ids)` of all its layers


@dataclass(frozen=True)
class PrefixPlace:
    """Where the first `length` tokens of a prompt lie, or will lie, in each KV group, from token `firsts[group]` on."""

    length: int
    firsts: tuple[int, ...]
    blocks: tuple[list[int], ...]
    hashes: list[bytes]
    slots: tuple[Slots, ...]  # block * block_size + offset of each token


class CachedPrefixes:
    """A view of the scheduler's blocks. What it finds holds until the next step is scheduled."""

    def __init__(self, config: SchedulerConfig, blocks: KVBlocks) -> None:
        self._config, self._tables = config, blocks.tables
        self._step = lcm(*(table.block_size for table in self._tables))

    def find(self, token_ids: Sequence[int], cache_salt: str) -> PrefixPlace:
        """The longest cached prefix, which may be all of the tokens or none."""
        hashes = self._hashes(token_ids, cache_salt)
        length = longest_common([table.index for table in self._tables], hashes, len(token_ids))
        runs = [table.index.run(hashes, length) for table in self._tables]
        return self._place(length, [first for first, _ in runs], [blocks for _, blocks in runs], hashes)

    def take(self, prefix: ExportedPrefix) -> PrefixPlace:
        """Blocks for as much of a prefix as fits: whole blocks of every group, all of which its tokens fill."""
        hashes = self._hashes(prefix.token_ids, prefix.cache_salt)
        if len(prefix.firsts) != len(self._tables):
            raise ValueError(f"The prefix is of {len(prefix.firsts)} KV groups; this engine has {len(self._tables)}")
        length = len(prefix.token_ids) // self._step * self._step
        while length and not self._fits(length, prefix.firsts):
            length -= self._step
        firsts, blocks = [], []
        for table in self._tables:
            count = length // table.block_size
            firsts.append(table.index.first(count))
            blocks.append(table.take(count - firsts[-1]))
        return self._place(length, firsts, blocks, hashes)

    def keep(self, place: PrefixPlace) -> None:
        """The blocks of a place that was taken hold its tokens now: prompts may hit them."""
        for table, first, blocks in zip(self._tables, place.firsts, place.blocks, strict=True):
            for position, block in enumerate(blocks, first // table.block_size):
                table.index.insert(place.hashes, position, block)
        self.give(place)

    def give(self, place: PrefixPlace) -> None:
        """The blocks of a place that was taken are free."""
        for table, blocks in zip(self._tables, place.blocks, strict=True):
            table.pool.give(blocks)

    def _fits(self, length: int, held: Sequence[int]) -> bool:
        for table, first_held in zip(self._tables, held, strict=True):
            count = length // table.block_size
            first = table.index.first(count)
            if first * table.block_size < first_held or count - first > table.pool.num_free:
                return False
        return True

    def _hashes(self, token_ids: Sequence[int], cache_salt: str) -> list[bytes]:
        if not self._config.caches_prefixes:
            raise ValueError(
                "KV is exchanged through the prefix cache, which is off in this engine; set enable_prefix_caching, on "
                "a platform that can start behind cached blocks"
            )
        hashes: list[bytes] = []
        tokens: Int32s = np.array(token_ids, np.int32)
        extend_hashes(hashes, root_hash(cache_salt), tokens, self._config.hash_unit)
        return hashes

    def _place(
        self, length: int, first_blocks: Sequence[int], blocks: Sequence[list[int]], hashes: list[bytes]
    ) -> PrefixPlace:
        sizes = [table.block_size for table in self._tables]
        slots = tuple(
            (np.array(ids, np.int64)[:, None] * size + np.arange(size)).ravel()
            for ids, size in zip(blocks, sizes, strict=True)
        )
        firsts = tuple(first * size for first, size in zip(first_blocks, sizes, strict=True))
        return PrefixPlace(length, firsts, tuple(blocks), hashes, slots)
