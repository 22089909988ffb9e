"""How many KV blocks sequences need, and how memory is split among the groups that hold them. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple


class GroupNeed(NamedTuple):
    """What splitting must know of a group."""

    block_bytes: int  # of one block in all layers of the group
    window: int | None
    block_size: int  # tokens


def blocks_for(num_tokens: int, block_size: int) -> int:
    """Blocks that hold `num_tokens` consecutive tokens from a block's start."""
    return -(-num_tokens // block_size)


def most_blocks(num_tokens: int, max_chunk: int, *, window: int | None, block_size: int) -> int:
    """The most blocks that one sequence holds at once on its way to `num_tokens`, at most `max_chunk` of them a step.

    Within a window those are ceil((window + chunk) / block) + 1: the window may begin and the chunk end inside a block.
    """
    whole = blocks_for(num_tokens, block_size)
    return whole if window is None else min(whole, blocks_for(window + max_chunk, block_size) + 1)


def split_kv_memory(
    num_bytes: int, needs: SequenceOf[GroupNeed], max_rows: int, max_chunk: int, max_model_len: int
) -> tuple[int, ...]:
    """Blocks for each group, null block included, that together take at most `num_bytes`.

    All groups get room for the same number of tokens, because a sequence shorter than the window takes as much of one
    group as of the other. A windowed group stops at what `max_rows` sequences can hold within the window, and the rest
    goes to the others; no group gets more than `max_rows` sequences of `max_model_len`. Raises ValueError when not even
    one such sequence fits.
    """

    def blocks(num_tokens: int) -> tuple[int, ...]:
        return tuple(_group_blocks(need, num_tokens, (max_rows, max_chunk, max_model_len)) for need in needs)

    def size(num_tokens: int) -> int:
        return sum(need.block_bytes * count for need, count in zip(needs, blocks(num_tokens), strict=True))

    if size(max_model_len) > num_bytes:
        fitting = _largest(lambda length: size(length) <= num_bytes, max_model_len)
        raise ValueError(
            f"KV cache memory of {num_bytes} bytes holds {fitting} tokens; one sequence of max_model_len"
            f" {max_model_len} needs {size(max_model_len)} bytes: lower --max-model-len to {fitting} or raise"
            " --kv-cache-memory"
        )
    return blocks(_largest(lambda num_tokens: size(num_tokens) <= num_bytes, max_rows * max_model_len))


def _group_blocks(need: GroupNeed, num_tokens: int, limits: tuple[int, int, int]) -> int:
    """Blocks of one group for `num_tokens` in all, at most what the limits (rows, chunk, length) can fill, and null."""
    max_rows, max_chunk, max_model_len = limits
    most = max_rows * most_blocks(max_model_len, max_chunk, window=need.window, block_size=need.block_size)
    return min(blocks_for(num_tokens, need.block_size), most) + 1


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number of `0 : most` that fits, where every smaller one does too; 0 when none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
