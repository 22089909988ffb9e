"""Sizes that a platform runs. The default plan runs any size as it comes."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

Phase = Literal["prefill", "decode", "mixed"]


class Bucket(msgspec.Struct, frozen=True):
    """The shape of one launch: upper bounds that the launch is padded to.

    With `query_len` every row is padded to as many query tokens, and `num_tokens` is their product; None: rows are
    ragged, packed one after another.
    """

    phase: Phase
    num_rows: int
    num_tokens: int
    query_len: int | None = None
    max_blocks: int = 0  # blocks a row; 0: not bounded
    num_blocks: int = 0  # blocks of all rows together; 0: num_rows * max_blocks

    @property
    def is_uniform(self) -> bool:
        """Whether all rows hold equally many query tokens."""
        return self.phase == "decode" or self.query_len is not None

    def describe(self) -> str:
        """One line: "decode, num_rows 8, num_tokens 8, query_len 1, max_blocks 16"; what is not bounded is left out."""
        sizes = {name: getattr(self, name) for name in self.__struct_fields__ if name != "phase"}
        return ", ".join([self.phase, *(f"{name} {size}" for name, size in sizes.items() if size)])


class Limits(msgspec.Struct, frozen=True):
    """The most that one step can hold, from the engine's configuration."""

    max_rows: int
    max_tokens: int
    max_model_len: int
    block_size: int = 16  # tokens; of the buckets' blocks
    num_drafts: int = 0  # draft tokens that a decode row may hold beside its own; they are verified in one launch

    @property
    def max_blocks(self) -> int:
        """Blocks of the longest row."""
        return -(-self.max_model_len // self.block_size)


class RowSizes(msgspec.Struct, frozen=True, eq=False):
    """What placement needs to know of a step's rows, in columns; decode rows, with their drafts, come first."""

    num_new: npt.NDArray[np.int32]  # [rows]
    kv_len: npt.NDArray[np.int32]  # [rows], the new tokens included

    def __len__(self) -> int:
        return len(self.num_new)


class Placement(msgspec.Struct, frozen=True):
    """One launch: the rows `rows[0] : rows[1]` of the step, run in `bucket`."""

    bucket: Bucket
    rows: tuple[int, int]
    captured: bool = False  # to be captured, before the first request if it was planned, otherwise now
    is_miss: bool = False  # no planned bucket holds the rows, so that `bucket` was made for them


class BucketPlan:
    """Any size runs, in one launch and without padding. Plans of static sizes are subclasses."""

    def buckets(self) -> tuple[Bucket, ...]:
        """What to capture before the first request, largest first; nothing here."""
        return ()

    def strict(self) -> BucketPlan:
        """The same plan, in which a step that no planned bucket holds is an error; here every size is as good."""
        return self

    @property
    def is_strict(self) -> bool:
        """Whether it forbids what no planned bucket holds, and so whatever would be compiled after the warm-up."""
        return False

    def place(self, need: RowSizes) -> tuple[Placement, ...]:
        """Launches that together hold all rows (at least one), in order."""
        num_rows = len(need)
        bucket = Bucket(phase_of(need.num_new), num_rows=num_rows, num_tokens=int(need.num_new.sum()))
        return (Placement(bucket, (0, num_rows)),)

    def sampling_sizes(self) -> tuple[int, ...]:
        """Numbers of rows to capture logits at before the first request; none here."""
        return ()

    def sampling_rows(self, num_rows: int) -> int:
        """At how many rows to compute the logits of `num_rows`, which are one at least and no more than the last of
        `sampling_sizes`, where there are any.
        """
        return num_rows


def phase_of(num_new: npt.NDArray[np.int32]) -> Phase:
    """Rows of one new token are decode rows; a prompt of one token is none the worse for it."""
    decode = int(np.count_nonzero(num_new == 1))
    return "decode" if decode == len(num_new) else "prefill" if decode == 0 else "mixed"
