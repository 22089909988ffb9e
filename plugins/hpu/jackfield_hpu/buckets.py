"""Sizes that are compiled for Gaudi: (rows, query, context) for prompts, (rows, blocks of all rows) for decode.

The dimensions and ladders are those of the vendor's vLLM plugin (docs.vllm.ai/projects/gaudi, "Bucketing Mechanism"):
exponential unless JACKFIELD_HPU_BUCKETS says otherwise, with ceil(log2(limit)) + 1 sizes in each dimension. Prompts are
padded inside rows; a prompt's context is what was computed before, in blocks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import pairwise

from jackfield_platforms.bucket import Bucket, Limits
from jackfield_platforms.buckets.ladder import Exponential, Ladder, Linear, PaddingAware
from jackfield_platforms.buckets.static_plan import StaticBuckets, StaticSizes

SWITCH = "JACKFIELD_HPU_BUCKETS"
LADDERS = "exponential", "linear", "pad"
_PADDING = 0.25  # of a dimension, at most, where padding is counted
_STEPS = {"rows": 32, "context": 8, "blocks": 128}  # of linear ladders; a query's is a block


def hpu_buckets(limits: Limits) -> StaticBuckets:
    """All of them, in the ladders that the user asked for; ValueError for ladders that there are not."""
    name = os.environ.get(SWITCH, LADDERS[0])
    if name not in LADDERS:
        raise ValueError(f"{SWITCH} must be one of {', '.join(LADDERS)}; got {name!r}")
    buckets = dict.fromkeys([*_prompts(name, limits), *_decode(name, limits)])
    return StaticBuckets(StaticSizes(buckets=tuple(buckets), block_size=limits.block_size))


def sizes(name: str, dimension: str, limit: int) -> tuple[int, ...]:
    """The sizes of one dimension, from 1 to `limit`."""
    ladder: Ladder
    match name:
        case "linear":
            ladder = Linear(1, _STEPS[dimension])
        case "pad":
            ladder = PaddingAware(relative=_PADDING)
        case _:
            ladder = Exponential(count=_count(limit))
    return tuple(min(size, limit) for size in ladder.sizes(limit))


def query_sizes(name: str, block_size: int, limit: int) -> tuple[int, ...]:
    """Query tokens of a row: multiples of a block, the last at least `limit`."""
    ladder: Ladder
    match name:
        case "linear":
            ladder = Linear(block_size, block_size)
        case "pad":
            ladder = PaddingAware(block_size, block_size, _PADDING)
        case _:
            ladder = Exponential(block_size, block_size, _count(limit))
    return ladder.sizes(limit)


def _count(limit: int) -> int:
    return math.ceil(math.log2(max(limit, 2))) + 1


def _prompts(name: str, limits: Limits) -> Iterator[Bucket]:
    block, longest = limits.block_size, min(limits.max_tokens, limits.max_model_len)
    for rows in sizes(name, "rows", limits.max_rows):
        for query in query_sizes(name, block, longest):
            # one row takes any length; more of them only what a step's tokens can fill
            if rows == 1 or rows * query <= limits.max_tokens:
                own = -(-query // block)
                for context in _contexts(name, max(limits.max_blocks - own, 0)):
                    yield Bucket("prefill", rows, rows * query, query_len=query, max_blocks=own + context)


def _contexts(name: str, limit: int) -> tuple[int, ...]:
    """Blocks before a prompt's own: none, and a ladder."""
    return (0, *sizes(name, "context", limit)) if limit else (0,)


def _decode(name: str, limits: Limits) -> Iterator[Bucket]:
    """A size that as many rows cannot fill, or that fewer rows never need, is left out."""
    queries = sorted({1, 1 + limits.num_drafts})
    for fewer, rows in pairwise((0, *sizes(name, "rows", limits.max_rows))):
        for blocks in sizes(name, "blocks", rows * limits.max_blocks):
            if blocks > fewer:
                for query in queries:
                    yield Bucket("decode", rows, rows * query, query, limits.max_blocks, blocks)
