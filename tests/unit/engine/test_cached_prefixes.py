"""Which blocks a prefix leaves from and which it gets: whole ones, free ones, and what a window needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jackfield.engine.cached_prefixes import CachedPrefixes, ExportedPrefix
from jackfield.engine.engine import Engine
from jackfield.engine.kv_blocks import KVBlocks
from jackfield.engine.model_info import ModelInfo
from jackfield.engine.scheduler import Scheduler
from jackfield.engine.scheduler_config import KVGroup, SchedulerConfig
from jackfield_platforms.kv import Paged
from jackfield_platforms.kv_tokens import KVHeader, KVTokens

TOKENS = list(range(100, 170))


def a_config(*groups: tuple[int | None, int, int], **changes: Any) -> SchedulerConfig:
    """Groups of (window, block size, blocks)."""
    fields = {"max_num_seqs": 4, "max_num_batched_tokens": 128, "max_model_len": 256, "hash_unit": 8}
    return SchedulerConfig(groups=tuple(KVGroup(*group) for group in groups), **{**fields, **changes})


def prefixes(*groups: tuple[int | None, int, int], **changes: Any) -> tuple[CachedPrefixes, KVBlocks]:
    config = a_config(*groups, **changes)
    blocks = KVBlocks(config)
    return CachedPrefixes(config, blocks), blocks


def exported(num_tokens: int, *firsts: int, salt: str = "") -> ExportedPrefix:
    """A prefix of TOKENS whose single number a token is its place."""
    groups = []
    for first in firsts:
        count = num_tokens - first
        places = torch.arange(first, num_tokens, dtype=torch.float32).view(1, count, 1, 1)
        header = KVHeader(Paged(1, 1, 1, "float32"), num_layers=1, num_tokens=count)
        groups.append(KVTokens(header, {"k": places, "v": -places}))
    return ExportedPrefix(tuple(TOKENS[:num_tokens]), salt, firsts, tuple(groups))


def test_what_was_taken_and_kept_is_found_again_at_its_slots() -> None:
    here, blocks = prefixes((None, 16, 20))
    place = here.take(exported(64, 0))
    assert (place.length, place.firsts) == (64, (0,))
    assert here.find(TOKENS, "").length == 0, "not before it is kept"
    here.keep(place)
    found = here.find(TOKENS, "")
    assert found.length == 64
    assert found.slots[0].tolist() == place.slots[0].tolist()
    assert found.slots[0].tolist() == [b * 16 + i for b in place.blocks[0] for i in range(16)]
    assert here.find(TOKENS, "other salt").length == 0
    assert here.find([7, *TOKENS], "").length == 0
    assert here.find(TOKENS[:63], "").length == 48
    assert blocks.tables[0].pool.num_free == 19


def test_only_whole_blocks_are_taken() -> None:
    here, _ = prefixes((None, 32, 20))
    assert here.take(exported(56, 0)).length == 32
    assert here.take(exported(24, 0)).length == 0


def test_only_free_blocks_are_taken() -> None:
    here, blocks = prefixes((None, 16, 4))
    assert here.take(exported(64, 0)).length == 48
    assert here.take(exported(64, 0)).length == 0
    assert blocks.tables[0].pool.num_free == 0


def test_what_is_given_back_is_found_by_nobody() -> None:
    here, blocks = prefixes((None, 16, 20))
    here.give(here.take(exported(64, 0)))
    assert here.find(TOKENS, "").length == 0
    assert blocks.tables[0].pool.num_free == 19


def test_tails_are_evicted_before_heads() -> None:
    here, blocks = prefixes((None, 16, 5))
    here.keep(here.take(exported(64, 0)))
    blocks.tables[0].take(1)
    assert here.find(TOKENS, "").length == 48


def test_a_windowed_group_gets_the_blocks_that_its_window_reaches() -> None:
    here, _ = prefixes((None, 16, 20), (20, 16, 20))
    place = here.take(exported(64, 0, 32))
    assert place.length == 64
    assert place.firsts == (0, 32)  # the token at 64 sees from 45 on
    assert [len(ids) for ids in place.blocks] == [4, 2]
    here.keep(place)
    assert here.find(TOKENS, "").firsts == (0, 32)


def test_a_window_that_lacks_tokens_makes_the_prefix_shorter_or_none() -> None:
    here, _ = prefixes((20, 32, 20))
    assert here.take(exported(64, 16)).length == 64  # the block from 32 on
    assert here.take(exported(48, 16)).length == 0  # 32 tokens would need those from 13 on, in the block from 0 on


def test_without_a_prefix_cache_there_is_nothing_to_exchange() -> None:
    here, _ = prefixes((None, 16, 20), enable_prefix_caching=False)
    with pytest.raises(ValueError, match="set enable_prefix_caching"):
        here.find(TOKENS, "")


def test_a_prefix_of_another_number_of_groups_is_refused() -> None:
    here, _ = prefixes((None, 16, 20))
    with pytest.raises(ValueError, match="of 2 KV groups; this engine has 1"):
        here.take(exported(64, 0, 0))


class Keeps:
    """An executor that remembers what it was given; it fails where it is told to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.slots, self.places = fails, [], []

    def import_kv(self, slots: Any, tokens: Any) -> None:
        if self.fails:
            raise ValueError("they do not fit")
        self.slots = [places.tolist() for places in slots]
        self.places = [group.tensors["k"].flatten().tolist() for group in tokens]


def an_engine(executor: Keeps, *groups: tuple[int | None, int, int]) -> Engine:
    model = ModelInfo(name="none", max_model_len=256, vocab_size=200, eos_token_ids=frozenset(), tokenizer="")
    return Engine(Scheduler(a_config(*groups)), executor, model)  # type: ignore[arg-type]


def test_each_slot_gets_its_own_token() -> None:
    keeper = Keeps()
    engine = an_engine(keeper, (None, 16, 20), (20, 16, 20))
    assert engine.import_kv(exported(70, 0, 16)) == 64
    assert keeper.places == [list(range(64)), list(range(32, 64))]
    assert [len(slots) for slots in keeper.slots] == [64, 32]
    assert len(np.unique(keeper.slots[0])) == 64


def test_an_import_that_fails_leaves_no_block_behind() -> None:
    engine = an_engine(Keeps(fails=True), (None, 16, 20))
    free = engine._scheduler.stats().num_free_blocks
    with pytest.raises(ValueError, match="they do not fit"):
        engine.import_kv(exported(64, 0))
    assert engine._scheduler.stats().num_free_blocks == free
    assert engine._scheduler.prefixes.find(TOKENS, "").length == 0
