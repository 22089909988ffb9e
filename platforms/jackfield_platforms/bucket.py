"""Sizes that a platform runs. The default plan runs any size as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class Bucket(msgspec.Struct, frozen=True):
    """The shape of one launch.

    Sizes are upper bounds that the launch is padded to; None in `query_len` means ragged rows.
    """

    phase: Literal["prefill", "decode", "mixed"]
    num_rows: int
    num_tokens: int
    query_len: int | None = None
    max_blocks: int = 0  # blocks a row
    num_blocks: int = 0  # blocks of all rows together; 0: num_rows * max_blocks


class Limits(msgspec.Struct, frozen=True):
    """The most that one step can hold, from the engine's configuration."""

    max_rows: int
    max_tokens: int
    max_model_len: int


class RowSize(msgspec.Struct, frozen=True):
    """What placement needs to know of a row."""

    num_new: int
    kv_len: int


class Placement(msgspec.Struct, frozen=True):
    """One launch: the rows `rows[0] : rows[1]` of the step, run in `bucket`."""

    bucket: Bucket
    rows: tuple[int, int]


class BucketPlan(msgspec.Struct, frozen=True):
    """Any size runs, in one launch and without padding. Ladders of static sizes are subclasses."""

    def place(self, need: Sequence[RowSize]) -> tuple[Placement, ...]:
        """Launches that together hold all rows, in order."""
        decode = sum(row.num_new == 1 for row in need)
        phase: Literal["prefill", "decode", "mixed"] = (
            "decode" if decode == len(need) else "prefill" if decode == 0 else "mixed"
        )
        bucket = Bucket(phase, num_rows=len(need), num_tokens=sum(row.num_new for row in need))
        return (Placement(bucket, (0, len(need))),)
