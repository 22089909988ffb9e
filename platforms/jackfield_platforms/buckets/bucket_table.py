"""The buckets of one phase as columns, so that the cheapest that holds a launch is found in one vectorised look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jackfield_platforms.bucket import Bucket

_UNBOUNDED = np.iinfo(np.int64).max


class Need(NamedTuple):
    """What a launch must hold."""

    num_rows: int
    num_tokens: int
    longest: int  # query tokens of one row
    max_blocks: int  # of one row
    num_blocks: int  # of all rows


class BucketTable:
    """Buckets in order of cost."""

    def __init__(self, buckets: Sequence[Bucket], cost: Callable[[Bucket], float]) -> None:
        self._buckets = sorted(buckets, key=cost)
        self._most = np.array([_holds(bucket) for bucket in self._buckets], np.int64).reshape(-1, len(Need._fields))

    def cheapest(self, need: Need) -> Bucket | None:
        """The cheapest bucket that holds `need`, or None."""
        holds = np.flatnonzero((self._most >= np.array(need)).all(axis=1))
        return self._buckets[holds[0]] if holds.size else None

    def describe(self) -> str:
        """The most that one of them holds in each dimension, for messages."""
        if not self._buckets:
            return "there is none"
        most = ("any" if size == _UNBOUNDED else str(size) for size in self._most.max(axis=0).tolist())
        names = (name.replace("_", " ") for name in Need._fields)
        return "they hold at most " + ", ".join(f"{name} {size}" for name, size in zip(names, most, strict=True))


def _holds(bucket: Bucket) -> tuple[int, ...]:
    """The most that a bucket holds, in the order of `Need`."""
    tokens = _UNBOUNDED if bucket.query_len else bucket.num_tokens  # rows and their length bound them there
    longest = bucket.query_len or bucket.num_tokens
    blocks = bucket.max_blocks or _UNBOUNDED
    total = bucket.num_blocks or (bucket.num_rows * bucket.max_blocks or _UNBOUNDED)
    return bucket.num_rows, tokens, longest, blocks, total
