"""What a plan of static sizes does to the steps that it places: hits, misses and padding of each bucket."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jackfield_platforms.bucket import Bucket, BucketPlan, Placement, RowSizes


class BucketUse(msgspec.Struct):
    """Launches of one bucket, and how much of what they ran was real."""

    launches: int = 0
    misses: int = 0  # of those: launches for which the bucket had to be made
    real_tokens: int = 0
    padded_tokens: int = 0  # what ran, the real ones included


class Usage:
    """Counts by bucket; None stands for all launches that ran uncaptured, at their own size."""

    def __init__(self) -> None:
        self.by_bucket: dict[Bucket | None, BucketUse] = {}

    def count(self, need: RowSizes, placements: Iterable[Placement]) -> None:
        """Add one step's launches."""
        for placement in placements:
            first, last = placement.rows
            use = self.by_bucket.setdefault(placement.bucket if placement.captured else None, BucketUse())
            use.launches += 1
            use.misses += placement.is_miss
            use.real_tokens += int(need.num_new[first:last].sum())
            use.padded_tokens += placement.bucket.num_tokens

    @property
    def launches(self) -> int:
        """Of all buckets."""
        return sum(use.launches for use in self.by_bucket.values())

    @property
    def misses(self) -> int:
        """Of all buckets."""
        return sum(use.misses for use in self.by_bucket.values())

    @property
    def waste(self) -> float:
        """The share of tokens that were padding, 0 to 1; 0 before the first launch."""
        padded = sum(use.padded_tokens for use in self.by_bucket.values())
        real = sum(use.real_tokens for use in self.by_bucket.values())
        return 1 - real / padded if padded else 0.0


def replay(plan: BucketPlan, steps: Iterable[RowSizes]) -> Usage:
    """The usage of a plan over recorded steps."""
    usage = Usage()
    for step in steps:
        usage.count(step, plan.place(step))
    return usage
