"""Who holds which KV blocks of one group: reference counts and a free list in least-recently-used order."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

NULL_BLOCK = 0
"""Never given out: padding rows write there, and table entries that left their window point there."""


class BlockPool:
    """Blocks `1 : num_blocks`. A free block keeps its contents until it is taken, so that the prefix cache can revive
    it.

    The free list is doubly linked through two integer lists with the null block as its head: take from the front, give
    to the back, remove from the middle, each in O(1). Misuse (a second give, an id out of range) raises RuntimeError.
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 2:
            raise ValueError(f"a block pool needs at least 2 blocks, one of them the null block; got {num_blocks}")
        self.num_blocks = num_blocks
        self.num_free = num_blocks - 1
        self._references = [0] * num_blocks
        self._next = [*range(1, num_blocks), NULL_BLOCK]
        self._previous = [num_blocks - 1, *range(num_blocks - 1)]

    def take(self, count: int) -> list[int]:
        """The `count` blocks that have been free the longest, with one reference each. Check `num_free` before."""
        if count > self.num_free:
            raise RuntimeError(f"wanted {count} blocks, {self.num_free} of {self.num_blocks - 1} are free")
        taken, references, following = [], self._references, self._next
        block = following[NULL_BLOCK]
        for _ in range(count):
            taken.append(block)
            references[block] = 1
            block = following[block]
        following[NULL_BLOCK], self._previous[block] = block, NULL_BLOCK
        self.num_free -= count
        return taken

    def touch(self, blocks: SequenceOf[int]) -> None:
        """Add a reference to each of `blocks`; those that were free leave the free list, contents intact."""
        for block in blocks:
            self._check(block)
            if self._references[block] == 0:
                before, after = self._previous[block], self._next[block]
                self._next[before], self._previous[after] = after, before
                self.num_free -= 1
            self._references[block] += 1

    def give(self, blocks: SequenceOf[int]) -> None:
        """Drop a reference to each of `blocks`, in the order of their sequence; tails will be taken again first."""
        for block in reversed(blocks):
            self._check(block)
            if self._references[block] == 0:
                raise RuntimeError(f"block {block} was given back twice")
            self._references[block] -= 1
            if self._references[block] == 0:
                self._append(block)

    def references(self, block: int) -> int:
        """How many holders `block` has; 0 when it is free."""
        self._check(block)
        return self._references[block]

    def free_blocks(self) -> list[int]:
        """The free list, the next block to be taken first. O(free): for tests and reports."""
        blocks, block = [], self._next[NULL_BLOCK]
        while block != NULL_BLOCK:
            blocks.append(block)
            block = self._next[block]
        return blocks

    def _append(self, block: int) -> None:
        last = self._previous[NULL_BLOCK]
        self._next[last], self._previous[block] = block, last
        self._next[block], self._previous[NULL_BLOCK] = NULL_BLOCK, block
        self.num_free += 1

    def _check(self, block: int) -> None:
        if not 0 < block < self.num_blocks:
            raise RuntimeError(f"block {block} is not one of 1 to {self.num_blocks - 1}")
