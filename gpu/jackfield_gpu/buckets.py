"""Sizes that graphs are captured at: decode rows alone, and mixtures of few tokens. Larger steps run as they are."""

from __future__ import annotations

import msgspec

from jackfield_platforms.bucket import Bucket, Limits, Placement, RowSizes, phase_of
from jackfield_platforms.buckets.ladder import CudaSizes, Listed, PaddingAware
from jackfield_platforms.buckets.phase_rule import PhaseRule
from jackfield_platforms.buckets.static_plan import StaticBuckets, StaticSizes

MOST_TOKENS = 512
"""Of a captured launch. A larger one takes longer than the host needs to launch it, so that a graph saves nothing, and
padding it would cost arithmetic."""

_LAUNCH_COST = 256.0
"""In tokens. A launch reads all weights once, which takes as long as the arithmetic of so many tokens where a device
multiplies 16-bit floats some 200 to 300 times for each byte that it reads (H100, H200, MI300X)."""


_BLOCK_COST = 1e-9  # of two sizes of as many tokens, the one of more rows is the larger


class GraphBuckets(StaticBuckets):
    """A plan of captured sizes, in which a step of more tokens than the largest holds is one uncaptured launch."""

    def place(self, need: RowSizes) -> tuple[Placement, ...]:
        num_tokens = int(need.num_new.sum())
        if num_tokens <= self._most:
            return super().place(need)
        return (Placement(Bucket(phase_of(need.num_new), len(need), num_tokens), (0, len(need))),)

    def strict(self) -> GraphBuckets:
        return GraphBuckets(msgspec.structs.replace(self.sizes, on_miss="error"))

    def _take(self, buckets: tuple[Bucket, ...]) -> None:
        super()._take(buckets)
        mixed = (bucket.num_tokens for bucket in buckets if bucket.phase == "mixed")
        self._most = max(mixed, default=MOST_TOKENS)


def graph_buckets(limits: Limits) -> GraphBuckets:
    """Decode at 1, 2, 4, 8, then every 8 rows; mixtures at fewer sizes, since each may be a graph for every layer.

    Tables of blocks are as wide as the longest row: attention's grid depends on the bucket alone, and what a row does
    not have costs nothing on the device.
    """
    most = min(limits.max_tokens, MOST_TOKENS)
    held = msgspec.structs.replace(limits, max_rows=min(limits.max_rows, most), max_tokens=most)
    blocks = Listed((held.max_blocks,))
    decode = PhaseRule(phase="decode", rows=CudaSizes(), blocks=blocks)
    mixed = PhaseRule(phase="mixed", tokens=PaddingAware(low=16, step=16, relative=0.2), blocks=blocks)
    buckets = dict.fromkeys(bucket for rule in (decode, mixed) for bucket in rule.buckets(held))
    captured = tuple(bucket for bucket in buckets if bucket.num_tokens <= MOST_TOKENS or bucket.phase == "mixed")
    return GraphBuckets(
        StaticSizes(
            buckets=captured,
            block_size=limits.block_size,
            on_miss="eager",
            launch_cost=_LAUNCH_COST,
            block_cost=_BLOCK_COST,
        )
    )
