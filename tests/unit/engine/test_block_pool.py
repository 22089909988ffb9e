"""Blocks are taken oldest first, revived by prefix hits, and never given back twice."""

from __future__ import annotations

import random

import pytest

from jackfield.engine.block_pool import NULL_BLOCK, BlockPool


def test_the_null_block_is_never_given_out() -> None:
    pool = BlockPool(5)
    assert NULL_BLOCK not in pool.take(4)
    assert pool.num_free == 0


def test_tails_are_taken_again_before_heads() -> None:
    pool = BlockPool(5)
    head, middle, tail = pool.take(3)
    pool.give([head, middle, tail])
    assert pool.take(4)[1:] == [tail, middle, head]  # after the one that was free all along


def test_a_block_is_free_only_when_its_last_holder_gave_it() -> None:
    pool = BlockPool(3)
    blocks = pool.take(1)
    pool.touch(blocks)
    pool.give(blocks)
    assert (pool.references(blocks[0]), pool.num_free) == (1, 1)
    pool.give(blocks)
    assert (pool.references(blocks[0]), pool.num_free) == (0, 2)


def test_a_touched_block_leaves_the_free_list() -> None:
    pool = BlockPool(6)
    blocks = pool.take(5)
    pool.give(blocks)
    pool.touch([blocks[2]])
    assert blocks[2] not in pool.free_blocks()
    assert sorted([*pool.take(4), blocks[2]]) == sorted(blocks)


def test_taking_more_than_is_free_names_both_numbers() -> None:
    pool = BlockPool(4)
    with pytest.raises(RuntimeError, match="wanted 4 blocks, 3 of 3 are free"):
        pool.take(4)


def test_a_second_give_raises() -> None:
    pool = BlockPool(4)
    blocks = pool.take(1)
    pool.give(blocks)
    with pytest.raises(RuntimeError, match="given back twice"):
        pool.give(blocks)


@pytest.mark.parametrize("block", [-1, 0, 4])
def test_blocks_that_the_pool_does_not_lend_raise(block: int) -> None:
    pool = BlockPool(4)
    for misuse in (pool.give, pool.touch):
        with pytest.raises(RuntimeError, match="is not one of 1 to 3"):
            misuse([block])


def test_a_pool_without_a_block_to_lend_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 blocks"):
        BlockPool(1)


def test_the_free_list_stays_whole_over_random_use() -> None:
    rng, pool, held = random.Random(4), BlockPool(40), list[int]()
    for _ in range(5_000):
        choice = rng.random()
        if choice < 0.4:
            held += pool.take(rng.randint(0, min(4, pool.num_free)))
        elif choice < 0.7:
            block = rng.randint(1, 39)
            pool.touch([block])
            held.append(block)
        elif held:
            pool.give([held.pop(rng.randrange(len(held)))])
        free = pool.free_blocks()
        assert len(free) == len(set(free)) == pool.num_free
        assert set(free) == set(range(1, 40)) - set(held)
        assert all(pool.references(block) == held.count(block) for block in set(held))
