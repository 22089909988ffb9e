"""Sizes that are compiled: prompts by context length, and a fixed number of rows by generation length.

As the vendor's own library for inference has them (AWS Neuron documentation, "NxD Inference", bucketing): a context-
encoding program takes one prompt, padded on its right; a token-generation program takes a token of every row, whether
there are as many or not. Lengths double from 128, the last is the longest that may occur.
"""

from __future__ import annotations

from collections.abc import Iterator

from jackfield_platforms.bucket import Bucket, Limits
from jackfield_platforms.buckets.static_plan import StaticBuckets, StaticSizes

SMALLEST = 128  # tokens: rows of a matrix unit (trn1, trn2), so that less takes as long
LAUNCH_COST = 256.0
"""In tokens: a launch reads all weights, which takes as long as the arithmetic of so many (Trainium: 95 TFLOPS of
bfloat16 and 0.4 TB/s a core, 230 operations a byte)."""

KEY_COST = 1 / 512
"""In tokens, of one token's keys and values: 0.1 MB of an 8B model, whose weights take 16 GB and so `LAUNCH_COST`."""

_BEHIND = 4  # a prompt behind computed tokens: from one context to the next


def neuron_buckets(limits: Limits) -> StaticBuckets:
    """Context encoding at one row, whole and behind computed tokens; token generation at all rows, with drafts as
    without.
    """
    sizes = dict.fromkeys([*_context_encoding(limits), *_token_generation(limits)])
    return StaticBuckets(
        StaticSizes(
            buckets=tuple(sizes),
            block_size=limits.block_size,
            launch_cost=LAUNCH_COST,
            block_cost=limits.block_size * KEY_COST,
        )
    )


def lengths(limit: int, factor: int = 2, start: int = SMALLEST) -> tuple[int, ...]:
    """Tokens: `start`, that times `factor`, and so on, and `limit`."""
    sizes, size = [], start
    while size < limit:
        sizes.append(size)
        size *= factor
    return (*sizes, limit)


def _context_encoding(limits: Limits) -> Iterator[Bucket]:
    """A whole prompt needs no more blocks than it has tokens; one behind computed tokens finds a longer context."""
    for query in lengths(min(limits.max_tokens, limits.max_model_len)):
        for context in lengths(limits.max_model_len, _BEHIND, start=query):
            yield Bucket("prefill", 1, query, query_len=query, max_blocks=_blocks(context, limits))


def _token_generation(limits: Limits) -> Iterator[Bucket]:
    rows = limits.max_rows
    for query in sorted({1, 1 + limits.num_drafts}):
        for context in lengths(limits.max_model_len):
            yield Bucket("decode", rows, rows * query, query_len=query, max_blocks=_blocks(context, limits))


def _blocks(tokens: int, limits: Limits) -> int:
    return -(-tokens // limits.block_size)
