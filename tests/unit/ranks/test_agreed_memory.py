"""All ranks plan with what the poorest has, since they must hold the same number of blocks."""

from __future__ import annotations

import types

import pytest
import torch

from jackfield.engine.kv_sizing import agreed_memory
from jackfield_platforms.communicator import SingleRank
from jackfield_platforms.platform import Memory


def build(comm):
    return types.SimpleNamespace(comm=comm, device=torch.device("cpu"))


@pytest.mark.parametrize(("shared", "free"), [(False, 70), (True, 35)], ids=["own", "shared"])
def test_ranks_plan_with_the_least(on_ranks, shared, free):
    def work(comm):
        return agreed_memory(lambda: Memory(100, (90, 70)[comm.rank], "mine", shared), build(comm))

    assert on_ranks(work) == [Memory(100, free, "mine", shared)] * 2


def test_memory_is_read_when_the_last_rank_has_loaded(on_ranks):
    loaded = set()

    def work(comm):
        loaded.add(comm.rank)
        return agreed_memory(lambda: Memory(100, 10 * len(loaded)), build(comm)).free

    assert on_ranks(work, 3) == [30] * 3


def test_one_rank_shares_with_nobody():
    assert agreed_memory(lambda: Memory(100, 90, shared=True), build(SingleRank())).free == 90
