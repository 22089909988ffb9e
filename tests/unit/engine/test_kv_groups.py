"""Memory is split so that one sequence of the longest length fits, and no group gets more than it can fill."""

from __future__ import annotations

import random

import pytest

from jackfield.engine.kv_groups import GroupNeed, blocks_for, most_blocks, split_kv_memory


@pytest.mark.parametrize("block_size", [1, 4, 16])
@pytest.mark.parametrize("window", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_a_window_never_holds_more_blocks_than_sized_for(block_size: int, window: int, chunk: int) -> None:
    for length in range(1, 120):
        most, start = most_blocks(length, chunk, window=window, block_size=block_size), 0
        while start < length:
            end = min(start + chunk, length)
            first = max(0, start - window + 1) // block_size
            assert blocks_for(end, block_size) - first <= most
            start = end


def test_one_group_gets_all_that_fits() -> None:
    assert split_kv_memory(1_000, [GroupNeed(10, None, 16)], max_rows=64, max_chunk=64, max_model_len=512) == (100,)


def test_no_group_gets_more_than_its_rows_can_fill() -> None:
    needs = [GroupNeed(10, None, 16), GroupNeed(10, 64, 16)]
    full, windowed = split_kv_memory(10**9, needs, max_rows=4, max_chunk=32, max_model_len=1_024)
    assert full == 4 * 64 + 1
    assert windowed == 4 * (6 + 1) + 1


def test_what_a_window_cannot_fill_goes_to_the_others() -> None:
    needs = [GroupNeed(10, None, 16), GroupNeed(50, 16, 16)]
    full, windowed = split_kv_memory(3_000, needs, max_rows=2, max_chunk=16, max_model_len=4_096)
    assert windowed == 2 * (2 + 1) + 1
    assert full == (3_000 - 50 * windowed) // 10


def test_splits_fit_and_hold_a_longest_sequence() -> None:
    rng = random.Random(9)
    for _ in range(300):
        choices = [None, 8, 100], [8, 16, 32]
        needs = [GroupNeed(rng.randint(1, 500), *map(rng.choice, choices)) for _ in range(rng.randint(1, 3))]
        num_bytes = rng.randint(1_000, 200_000)
        try:
            counts = split_kv_memory(num_bytes, needs, max_rows=8, max_chunk=64, max_model_len=300)
        except ValueError:
            continue
        assert sum(n * need.block_bytes for n, need in zip(counts, needs, strict=True)) <= num_bytes
        for count, need in zip(counts, needs, strict=True):
            assert count - 1 >= most_blocks(300, 64, window=need.window, block_size=need.block_size)


def test_too_little_memory_says_what_fits_and_what_to_change() -> None:
    needs = [GroupNeed(100, None, 16)]
    with pytest.raises(ValueError, match=r"900 bytes holds 128 tokens.*512 needs 3300 bytes.*--max-model-len to 128"):
        split_kv_memory(900, needs, max_rows=4, max_chunk=64, max_model_len=512)
    assert split_kv_memory(900, needs, max_rows=4, max_chunk=64, max_model_len=128) == (9,)
