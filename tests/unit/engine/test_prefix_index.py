"""A hit is the longest prefix whose blocks are all there, in every group, within its window."""

from __future__ import annotations

import numpy as np
import pytest

from jackfield.engine.prefix_index import PrefixIndex, extend_hashes, longest_common, root_hash


def hashes_of(tokens: list[int], *, salt: str = "", unit: int = 4) -> list[bytes]:
    hashes: list[bytes] = []
    extend_hashes(hashes, root_hash(salt), np.array(tokens, np.int32), unit)
    return hashes


def filled(num_blocks: int, block_size: int, hashes: list[bytes], window: int | None = None) -> PrefixIndex:
    """An index that holds the first blocks of a prefix, as blocks 1, 2, …"""
    index = PrefixIndex(num_blocks + 1, block_size, unit=4, window=window)
    for position in range(num_blocks):
        index.insert(hashes, position, position + 1)
    return index


def test_a_digest_stands_for_the_whole_prefix() -> None:
    one, other = hashes_of([1, 2, 3, 4, 5, 6, 7, 8]), hashes_of([9, 2, 3, 4, 5, 6, 7, 8])
    assert len(one) == 2
    assert one[1] != other[1]


def test_only_full_units_are_hashed_and_growing_gives_the_same() -> None:
    tokens = np.arange(11, dtype=np.int32)
    grown: list[bytes] = []
    for end in range(12):
        extend_hashes(grown, root_hash(""), tokens[:end], 4)
    assert grown == hashes_of(tokens.tolist())
    assert len(grown) == 2


def test_different_salts_share_nothing() -> None:
    assert not set(hashes_of(list(range(16)), salt="a")) & set(hashes_of(list(range(16)), salt="b"))


def test_parts_of_a_root_do_not_run_into_each_other() -> None:
    assert root_hash("ab", "c") != root_hash("a", "bc")


def test_the_hit_ends_before_the_first_missing_block() -> None:
    hashes = hashes_of(list(range(16)))
    index = filled(4, 4, hashes)
    assert index.longest(hashes, 16) == 16
    assert index.longest(hashes, 15) == 12
    index.evict([3])
    assert index.longest(hashes, 16) == 8
    assert index.match(hashes, 8) == [1, 2]


def test_a_block_of_several_units_is_known_by_its_last() -> None:
    hashes = hashes_of(list(range(24)))
    index = filled(2, 8, hashes)
    assert index.longest(hashes, 24) == 16
    other = hashes_of([*range(12), 0, 0, 0, 0])
    assert index.longest(other, 16) == 8


@pytest.mark.parametrize(("window", "needed"), [(1, []), (2, [4]), (5, [4]), (6, [3, 4]), (9, [3, 4]), (10, [2, 3, 4])])
def test_a_window_needs_only_the_blocks_that_it_reaches(window: int, needed: list[int]) -> None:
    hashes = hashes_of(list(range(16)))
    index = filled(4, 4, hashes, window)
    index.evict(block for block in (1, 2, 3, 4) if block not in needed)
    assert index.longest(hashes, 16) == 16
    assert index.match(hashes, 16) == [0] * (4 - len(needed)) + needed
    if needed:
        index.evict([needed[0]])
        assert index.longest(hashes, 16) < 16


def test_a_window_falls_back_behind_a_hole() -> None:
    hashes = hashes_of(list(range(32)))
    index = filled(8, 4, hashes, window=6)
    index.evict([7])
    assert index.longest(hashes, 32) == 24
    index.evict([2])
    assert index.longest(hashes, 24) == 24  # the window does not reach that far
    index.evict([6, 5, 4, 3])
    assert index.longest(hashes, 32) == 4


def test_groups_agree_on_the_longest_common_prefix() -> None:
    hashes = hashes_of(list(range(32)))
    small, large = filled(7, 4, hashes), filled(4, 8, hashes, window=6)
    assert longest_common([small, large], hashes, 32) == 24
    large.evict([3])
    assert longest_common([small, large], hashes, 32) == 16
    small.evict([1])
    assert longest_common([small, large], hashes, 32) == 0


def test_the_first_of_two_equal_blocks_is_kept_and_evicting_the_other_changes_nothing() -> None:
    hashes = hashes_of(list(range(4)))
    index = PrefixIndex(10, 4, unit=4)
    index.insert(hashes, 0, 5)
    index.insert(hashes, 0, 7)
    index.evict([7])
    assert index.match(hashes, 4) == [5]
    index.evict([5])
    assert index.longest(hashes, 4) == len(index) == 0


def test_a_block_size_must_be_whole_units() -> None:
    with pytest.raises(ValueError, match="block_size 6 is not a multiple of the hash unit 4"):
        PrefixIndex(4, 6, unit=4)


def test_a_run_goes_back_as_far_as_no_block_is_missing_whatever_the_window() -> None:
    hashes = hashes_of(list(range(24)))
    index = filled(6, 4, hashes, window=6)
    assert index.match(hashes, 24) == [0, 0, 0, 0, 5, 6]
    assert index.run(hashes, 24) == (0, [1, 2, 3, 4, 5, 6])
    index.evict([2])
    assert index.run(hashes, 24) == (2, [3, 4, 5, 6])
    assert index.run(hashes, 8) == (2, [])
