"""The KV blocks of all groups as one thing: a sequence gets what it needs in every group, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jackfield.engine.block_tables import BlockTable
from jackfield.engine.prefix_index import extend_hashes, longest_common
from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.sequence import Sequence
from jackfield.engine.step import Int32s, TableUpdates


class PrefixHit(NamedTuple):
    """What the prefix cache has of a sequence: `length` tokens, their blocks in each group (0: out of the window)."""

    length: int
    blocks: list[list[int]]


class KVBlocks:
    """Block tables of every group. Blocks given back while steps are in flight wait until the newest completes."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.tables = tuple(BlockTable(group, config) for group in config.groups)
        self._unit = config.hash_unit
        self._caches_prefixes = config.caches_prefixes
        self._newest: int | None = None  # id of the newest step in flight
        self._claims = [0] * len(self.tables)  # waiting blocks that rows passed over in this step count on

    def objection(self, num_tokens: int) -> str | None:
        """Why a sequence could never hold `num_tokens`, even alone, or None."""
        for number, table in enumerate(self.tables):
            needed, total = table.most(num_tokens), table.pool.num_blocks - 1
            if needed > total:
                return (
                    f"{num_tokens} tokens need {needed} KV blocks of {table.block_size} tokens;"
                    f" group {number} has {total} in all"
                )
        return None

    # prefixes

    def match(self, sequence: Sequence) -> PrefixHit:
        """The longest cached prefix of a waiting sequence; at least one token is left to compute."""
        if not self._caches_prefixes:
            return PrefixHit(0, [[] for _ in self.tables])
        extend_hashes(sequence.hashes, sequence.root, sequence.tokens, self._unit)
        length = longest_common([table.index for table in self.tables], sequence.hashes, len(sequence.tokens) - 1)
        return PrefixHit(length, [table.index.match(sequence.hashes, length) for table in self.tables])

    def remember(self, sequence: Sequence, tokens: Int32s, start: int) -> int:
        """Index the blocks of computed `tokens` of a running sequence, from `start` on; returns up to where."""
        extend_hashes(sequence.hashes, sequence.root, tokens, self._unit)
        end = len(tokens) // self._unit * self._unit
        for table in self.tables:
            table.remember(sequence.slot, sequence.hashes, start, end)
        return end

    # taking

    def fits(self, num_tokens: int, hit: PrefixHit, *, promised: list[int]) -> bool:
        """Whether a new sequence can get to `num_tokens` beside what is `promised` to others in each group."""
        for table, blocks, others in zip(self.tables, hit.blocks, promised, strict=True):
            hits = [block for block in blocks if block]
            revived = sum(table.pool.references(block) == 0 for block in hits)
            if max(0, table.most(num_tokens) - len(hits)) + revived + others > table.pool.num_free:
                return False
        return True

    def promised(self, growing: Iterable[tuple[int, int]], num_decoding: int) -> list[int]:
        """Blocks not to be given to newcomers: what each (slot, num_tokens) still needs, and the next one of who
        decodes.
        """
        pairs = list(growing)
        return [
            sum(max(0, table.most(num_tokens) - table.held(slot)) for slot, num_tokens in pairs)
            + (num_decoding if table.window is None else 0)
            for table in self.tables
        ]

    def start(self, slot: int, hit: PrefixHit) -> None:
        """Give an empty slot the blocks of a prefix hit."""
        for table, blocks in zip(self.tables, hit.blocks, strict=True):
            table.start(slot, blocks)

    def grow(self, slot: int, num_computed: int, num_tokens: int) -> bool:
        """Let a slot hold `num_tokens`, `num_computed` of them computed; False, and nothing taken, if blocks lack."""
        for table in self.tables:
            table.give(table.leave(slot, num_computed), self._newest)
        if any(table.missing(slot, num_tokens) > table.pool.num_free for table in self.tables):
            return False
        for table in self.tables:
            table.grow(slot, num_tokens)
        return True

    def stretch(self, slot: int, num_computed: int, num_tokens: int, *, spare: int) -> int:
        """Let a slot hold `num_tokens` if that leaves `spare` blocks free; returns how many of them it can hold now."""
        if all(table.missing(slot, num_tokens) + spare <= table.pool.num_free for table in self.tables):
            self.grow(slot, num_computed, num_tokens)
        return min(num_tokens, *(int(table.capacity[slot]) for table in self.tables))

    def crossings(self, slots: npt.NDArray[np.intp], num_computed: Int32s) -> list[npt.NDArray[np.intp]]:
        """For each group, indices of the `slots` whose next token needs a new block."""
        return [(num_computed >= table.capacity[slots]).nonzero()[0] for table in self.tables]

    def extend(self, slots: npt.NDArray[np.intp], num_computed: Int32s, crossings: list[npt.NDArray[np.intp]]) -> bool:
        """One more block wherever a slot crosses a border; False, and nothing taken, if blocks lack."""
        if any(len(indices) > table.pool.num_free for table, indices in zip(self.tables, crossings, strict=True)):
            return False
        for table, indices in zip(self.tables, crossings, strict=True):
            if not len(indices):
                continue
            crossing = slots[indices]
            if table.window is not None:
                for slot, computed in zip(crossing.tolist(), num_computed[indices].tolist(), strict=True):
                    table.give(table.leave(slot, computed), self._newest)
            table.extend(crossing)
        return True

    # giving back

    def release(self, slot: int) -> None:
        """Give back all blocks of a slot."""
        for table in self.tables:
            table.give(table.release(slot), self._newest)

    def claim(self, slot: int, num_tokens: int) -> bool:
        """Whether blocks that steps in flight will give back suffice for a slot; if so they count as taken for this
        step.
        """
        needs = [table.missing(slot, num_tokens) for table in self.tables]
        for table, need, claimed in zip(self.tables, needs, self._claims, strict=True):
            if need + claimed > table.pool.num_free + table.num_waiting:
                return False
        self._claims = [claimed + need for claimed, need in zip(self._claims, needs, strict=True)]
        return True

    # steps

    def open(self) -> None:
        """A step is being put together."""
        self._claims = [0] * len(self.tables)

    def launch(self, step_id: int) -> tuple[TableUpdates, ...]:
        """A step goes out; returns the changes that it carries."""
        self._newest = step_id
        return tuple(table.updates() for table in self.tables)

    def complete(self, step_id: int) -> None:
        """A step is done: blocks that waited for it are free."""
        for table in self.tables:
            table.complete(step_id)
        if self._newest == step_id:
            self._newest = None
