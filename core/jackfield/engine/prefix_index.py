"""Which block holds which prefix: chained hashes of token ids to blocks of one KV group."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from hashlib import blake2b
from math import lcm

import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 16


def root_hash(*parts: str) -> bytes:
    """Where a chain starts. Sequences share blocks only if all `parts` agree: the cache salt, the LoRA id."""
    digest = blake2b(digest_size=DIGEST_BYTES, person=b"jackfield-prefix")
    for part in parts:
        text = part.encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.digest()


def extend_hashes(hashes: list[bytes], root: bytes, tokens: npt.NDArray[np.int32], unit: int) -> None:
    """Append to `hashes` one digest for each further full unit of `tokens`; each digest stands for the whole prefix up
    to it.
    """
    parent = hashes[-1] if hashes else root
    for start in range(len(hashes) * unit, len(tokens) - unit + 1, unit):
        parent = blake2b(parent + tokens[start : start + unit].tobytes(), digest_size=DIGEST_BYTES).digest()
        hashes.append(parent)


def agree(one: SequenceOf[bytes], other: SequenceOf[bytes], length: int, unit: int) -> bool:
    """Whether two sequences are known to have the same first `length` tokens, by the hashes that each has so far."""
    last = -(-length // unit) - 1
    return last < min(len(one), len(other)) and one[last] == other[last]


class PrefixIndex:
    """Full blocks of one group by the hash of the prefix that ends with them.

    The hash unit is the same for all groups; a block is `block_size / unit` units and is known by the digest of its
    last one.
    """

    def __init__(self, num_blocks: int, block_size: int, *, unit: int, window: int | None = None) -> None:
        if block_size % unit:
            raise ValueError(f"block_size {block_size} is not a multiple of the hash unit {unit}; choose a multiple")
        self.block_size, self.window = block_size, window
        self._units = block_size // unit
        self._blocks: dict[bytes, int] = {}
        self._keys: list[bytes | None] = [None] * num_blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def insert(self, hashes: SequenceOf[bytes], position: int, block: int) -> None:
        """Remember that `block` holds block number `position` of the prefix; the first of two equal blocks is kept."""
        key = hashes[(position + 1) * self._units - 1]
        if self._blocks.setdefault(key, block) == block:
            self._keys[block] = key

    def evict(self, blocks: Iterable[int]) -> None:
        """Forget what `blocks` held; called when they are taken for new tokens."""
        keys = self._keys
        for block in blocks:
            key = keys[block]
            if key is not None:
                del self._blocks[key]
                keys[block] = None

    def longest(self, hashes: SequenceOf[bytes], limit: int) -> int:
        """The longest reusable prefix of at most `limit` tokens, in tokens. A window needs only the blocks that it
        reaches.
        """
        count = min(limit // self.block_size, len(hashes) // self._units)
        while count:
            missing = next((p for p in range(self.first(count), count) if self._find(hashes, p) is None), None)
            if missing is None:
                break
            count = missing  # any longer prefix would need the missing block too
        return count * self.block_size

    def match(self, hashes: SequenceOf[bytes], length: int) -> list[int]:
        """The blocks of a prefix whose `length` came from `longest`, the null block (0) for those out of the window."""
        count = length // self.block_size
        first = self.first(count)
        return [0] * first + [self._blocks[hashes[(p + 1) * self._units - 1]] for p in range(first, count)]

    def run(self, hashes: SequenceOf[bytes], length: int) -> tuple[int, list[int]]:
        """The blocks in front of `length`, back as far as none is missing: the number of the first, and all of them."""
        count = first = length // self.block_size
        while first and self._find(hashes, first - 1) is not None:
            first -= 1
        return first, [self._blocks[hashes[(p + 1) * self._units - 1]] for p in range(first, count)]

    def first(self, count: int) -> int:
        """The first block that the token behind `count` blocks attends to."""
        return 0 if self.window is None else max(0, count * self.block_size - self.window + 1) // self.block_size

    def _find(self, hashes: SequenceOf[bytes], position: int) -> int | None:
        return self._blocks.get(hashes[(position + 1) * self._units - 1])


def longest_common(indexes: SequenceOf[PrefixIndex], hashes: SequenceOf[bytes], limit: int) -> int:
    """The longest prefix of at most `limit` tokens that every group can reuse, in tokens."""
    step = lcm(*(index.block_size for index in indexes))
    length = limit // step * step
    while True:
        shorter = length
        for index in indexes:
            shorter = index.longest(hashes, shorter) // step * step
        if shorter == length:
            return length
        length = shorter
