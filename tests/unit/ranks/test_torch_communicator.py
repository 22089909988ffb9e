"""Collectives over gloo, without torch's global process group."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist

from jackfield_cpu.platform import CpuPlatform
from jackfield_platforms.torch_communicator import meet

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64]


@pytest.mark.parametrize("size", [2, 3])
def test_every_rank_gets_the_sum_the_parts_and_what_one_holds(on_ranks, size):
    def work(comm):
        told = []
        for dtype in DTYPES:
            x = (torch.arange(6).reshape(2, 3) * 4**comm.rank).to(dtype)
            gathered = comm.all_gather(x), comm.all_gather(x, 0)
            told.append((comm.all_reduce(x.clone()), *gathered, comm.broadcast(x.clone(), size - 1)))
        return comm.rank, told

    parts = [torch.arange(6).reshape(2, 3) * 4**rank for rank in range(size)]
    for rank, (found, told) in enumerate(on_ranks(work, size)):
        assert found == rank
        for dtype, got in zip(DTYPES, told, strict=True):
            wanted = (sum(parts), torch.cat(parts, 1), torch.cat(parts, 0), parts[-1])
            assert all(torch.equal(a, b.to(dtype)) for a, b in zip(got, wanted, strict=True))
    assert not dist.is_initialized()


def test_strided_and_empty_tensors_are_taken(on_ranks):
    def work(comm):
        x = (torch.arange(6).reshape(2, 3) + comm.rank).t()
        nothing = torch.empty(0, 4)
        told = comm.all_reduce(x.clone()), comm.all_gather(x), comm.broadcast(x.clone())
        return *told, comm.all_reduce(nothing), comm.broadcast(nothing)

    x = torch.arange(6).reshape(2, 3).t()
    for summed, gathered, sent, *nothing in on_ranks(work):
        assert torch.equal(summed, 2 * x + 1)
        assert torch.equal(gathered, torch.cat((x, x + 1), 1))
        assert torch.equal(sent, x)
        assert [len(one) for one in nothing] == [0, 0]


def test_two_models_in_one_process_do_not_hear_each_other(on_ranks):
    first, second = (on_ranks(lambda comm, n=n: comm.all_reduce(torch.tensor([n]))) for n in (3, 5))
    assert [int(x) for x in first + second] == [6, 6, 10, 10]


def test_where_ranks_met_may_be_removed_by_the_first_that_is_through(tmp_path):
    def work(rank, folder):
        comm = meet("gloo", rank, 3, str(folder / "meeting"))
        if rank == 0:
            shutil.rmtree(folder)
        return float(comm.all_reduce(torch.ones(1)))

    for number in range(10):
        (folder := tmp_path / str(number)).mkdir()
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(work, range(3), [folder] * 3)) == [3.0] * 3


def talk_for_ever(comm):
    while True:
        comm.all_reduce(torch.ones(1))


def test_a_rank_whose_peer_has_gone_gets_an_error(on_ranks):
    def work(comm):
        comm.all_reduce(torch.ones(1))
        if comm.rank == 0:
            talk_for_ever(comm)  # the other's connections close with its communicator

    with pytest.raises(RuntimeError, match=r"(?i)connection|closed|peer"):
        on_ranks(work)


def test_a_backend_that_is_not_made_here_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"'nccl', only with gloo: override Platform\.communicator"):
        meet("nccl", 0, 2, "nowhere")


def test_a_processor_connects_its_ranks_through_gloo():
    assert CpuPlatform().collectives() == "gloo"
    assert CpuPlatform().capabilities().max_ranks is None
