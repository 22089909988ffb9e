"""Which blocks each slot has in each KV group; growth, windows, prefix hits, blocks that wait for steps in flight."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from jackfield.engine.block_pool import NULL_BLOCK, BlockPool
from jackfield.engine.kv_groups import blocks_for, most_blocks
from jackfield.engine.prefix_index import PrefixIndex
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield.engine.step import TableUpdates

_EMPTY = np.zeros(0, np.int32)
_NO_UPDATES = TableUpdates(_EMPTY, _EMPTY, _EMPTY)


class BlockTable:
    """The block table of one group, `[slots, blocks]`, with its pool and prefix index, and the changes since the last
    step.
    """

    def __init__(self, group: KVGroup, config: SchedulerConfig) -> None:
        self.block_size, self.window = group.block_size, group.window
        self.pool = BlockPool(group.num_blocks)
        self.index = PrefixIndex(group.num_blocks, group.block_size, unit=config.hash_unit, window=group.window)
        self.table = np.zeros((config.max_num_seqs, blocks_for(config.max_model_len, group.block_size)), np.int32)
        self.capacity = np.zeros(config.max_num_seqs, np.int32)  # tokens up to which a slot's table is filled
        self.num_waiting = 0  # blocks that return to the pool when a step in flight completes
        self._max_chunk = config.max_num_batched_tokens
        self._cleared = [0] * config.max_num_seqs  # positions that left the window, by slot
        self._waiting: deque[tuple[int, list[int]]] = deque()  # (step id, blocks)
        self._changes: tuple[list[int], list[int], list[int]] = ([], [], [])  # slots, positions, blocks

    def most(self, num_tokens: int) -> int:
        """The most blocks that a sequence holds at once on its way to `num_tokens`."""
        return most_blocks(num_tokens, self._max_chunk, window=self.window, block_size=self.block_size)

    def held(self, slot: int) -> int:
        """Blocks that a slot holds now."""
        return int(self.capacity[slot]) // self.block_size - self._cleared[slot]

    def missing(self, slot: int, num_tokens: int) -> int:
        """Blocks to take before a slot can hold `num_tokens`."""
        return max(0, blocks_for(num_tokens - int(self.capacity[slot]), self.block_size))

    def start(self, slot: int, blocks: list[int]) -> None:
        """Give a slot the blocks of a prefix hit, in place of whatever it had."""
        self._cleared[slot] = blocks.count(NULL_BLOCK)
        self.pool.touch(blocks[self._cleared[slot] :])
        self.capacity[slot] = 0
        self._append(slot, blocks)

    def grow(self, slot: int, num_tokens: int) -> None:
        """Take blocks until a slot can hold `num_tokens`."""
        self._append(slot, self.take(self.missing(slot, num_tokens)))

    def extend(self, slots: npt.NDArray[np.intp]) -> None:
        """Take one more block for each of `slots`."""
        blocks = self.take(len(slots))
        capacity = self.capacity[slots]
        positions = capacity // self.block_size
        self.table[slots, positions] = blocks
        self.capacity[slots] = capacity + self.block_size
        for changes, values in zip(self._changes, (slots.tolist(), positions.tolist(), blocks), strict=True):
            changes.extend(values)

    def leave(self, slot: int, num_computed: int) -> list[int]:
        """Clear the entries that token `num_computed` and later ones cannot see any more; returns their blocks."""
        if self.window is None:
            return []
        first, last = self._cleared[slot], max(0, num_computed - self.window + 1) // self.block_size
        if last <= first:
            return []
        blocks: list[int] = self.table[slot, first:last].tolist()
        self.table[slot, first:last] = NULL_BLOCK
        self._cleared[slot] = last
        self._note(slot, first, [NULL_BLOCK] * len(blocks))
        return blocks

    def release(self, slot: int) -> list[int]:
        """Empty a slot's table; returns its blocks."""
        blocks: list[int] = self.table[slot, self._cleared[slot] : int(self.capacity[slot]) // self.block_size].tolist()
        self.capacity[slot], self._cleared[slot] = 0, 0
        if slot in self._changes[0]:
            kept = [change for change in zip(*self._changes, strict=True) if change[0] != slot]
            self._changes = ([c[0] for c in kept], [c[1] for c in kept], [c[2] for c in kept])
        return blocks

    def give(self, blocks: list[int], after: int | None) -> None:
        """Give blocks back to the pool, or once step `after` completes."""
        if after is None:
            self.pool.give(blocks)
        elif blocks:
            self._waiting.append((after, blocks))
            self.num_waiting += len(blocks)

    def complete(self, step_id: int) -> None:
        """Give back what waited for this step."""
        while self._waiting and self._waiting[0][0] <= step_id:
            blocks = self._waiting.popleft()[1]
            self.pool.give(blocks)
            self.num_waiting -= len(blocks)

    def remember(self, slot: int, hashes: list[bytes], start: int, end: int) -> None:
        """Index the full blocks of the computed tokens `start : end` of a slot."""
        for position in range(start // self.block_size, end // self.block_size):
            block = int(self.table[slot, position])
            if block != NULL_BLOCK:
                self.index.insert(hashes, position, block)

    def updates(self) -> TableUpdates:
        """The changes since the last call."""
        if not self._changes[0]:
            return _NO_UPDATES
        slots, positions, blocks = (np.array(column, np.int32) for column in self._changes)
        self._changes = ([], [], [])
        return TableUpdates(slots, positions, blocks)

    def take(self, count: int) -> list[int]:
        """Blocks out of the pool, which prefixes no longer find."""
        blocks = self.pool.take(count)
        self.index.evict(blocks)
        return blocks

    def _append(self, slot: int, blocks: list[int]) -> None:
        if not blocks:
            return
        first = int(self.capacity[slot]) // self.block_size
        self.table[slot, first : first + len(blocks)] = blocks
        self.capacity[slot] += len(blocks) * self.block_size
        self._note(slot, first, blocks)

    def _note(self, slot: int, first: int, blocks: list[int]) -> None:
        slots, positions, changed = self._changes
        slots.extend([slot] * len(blocks))
        positions.extend(range(first, first + len(blocks)))
        changed.extend(blocks)
