"""The emulated torch device: right numbers, and every liberty that a real device does not grant refused."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F

from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import ProgramKey
from jackfield_platforms.testing.emulated import BYTES, EmulatedPlatform
from jackfield_platforms.testing.torch_device import HostCopyError, install

NAME = "emulated"


@pytest.fixture
def platform() -> EmulatedPlatform:
    made = EmulatedPlatform()
    yield made
    made.torch_device.guarded, made.torch_device.memory.limit = False, BYTES


@pytest.fixture
def device(platform) -> torch.device:
    return platform.device()


def on(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(device)


def test_numbers_are_those_of_the_processor(device):
    a, b, ids = torch.randn(3, 5), torch.randn(5, 2), torch.tensor([2, 0])
    x, y, places = (on(device, tensor) for tensor in (a, b, ids))
    for got, wanted in (
        (x @ y, a @ b),
        (x.t() + 1, a.t() + 1),
        (x[places], a[ids]),
        (x.index_select(0, places), a.index_select(0, ids)),
        (x.sort(-1).values, a.sort(-1).values),
        (torch.cat((x, x)).chunk(2)[1], a),
        (F.embedding(places, x), a[ids]),
        (x.bfloat16().float(), a.bfloat16().float()),
    ):
        assert got.device.type == NAME
        torch.testing.assert_close(got.cpu(), wanted)


def test_writing_through_a_view_writes_the_tensor(device):
    x = torch.zeros(3, 4, device=device)
    x[1].fill_(7)
    x.view(-1)[0] = 5
    x.t()[3] += 1
    assert x.cpu().tolist() == [[5, 0, 0, 1], [7, 7, 7, 8], [0, 0, 0, 1]]
    assert x.t().untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_an_output_argument_is_written_where_it_is(device):
    x, out = on(device, torch.arange(6.0).view(2, 3)), torch.empty(2, 2, device=device)
    address = out.data_ptr()
    torch.mm(x, x.t().contiguous(), out=out)
    assert out.data_ptr() == address
    assert out.cpu().tolist() == [[5, 14], [14, 50]]
    empty = torch.empty(0, device=device)
    torch.add(x, 1, out=empty)
    assert empty.cpu().tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("mixed", [torch.add, torch.matmul, lambda x, y: x.index_select(0, y.long()), torch.minimum])
def test_host_tensors_are_not_mixed_in(device, mixed):
    with pytest.raises(RuntimeError, match=r"(?i)expected all tensors"):
        mixed(torch.ones(3, device=device), torch.ones(3))


def test_fresh_memory_is_poison(device):
    assert torch.empty(5, device=device).isnan().all().cpu()
    assert (torch.empty(5, dtype=torch.int64, device=device) == -1).all().cpu()


def test_memory_is_counted_and_given_back(platform, device):
    gc.collect()
    before = platform.memory(device)
    held = torch.zeros(1 << 20, device=device)
    view = held[10:]
    assert before.free - platform.memory(device).free == 4 << 20
    del held
    assert before.free - platform.memory(device).free == 4 << 20, "the view keeps it"
    del view
    assert platform.memory(device).free == before.free
    assert before.total == BYTES


def test_more_than_the_limit_is_out_of_memory_as_on_a_real_device(platform, device):
    platform.torch_device.memory.limit = platform.torch_device.memory.allocated + 1000
    torch.zeros(200, device=device)
    with pytest.raises(torch.OutOfMemoryError, match="wanted 4,000 bytes"):
        torch.zeros(1000, device=device)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.cpu(),
        lambda x: x.item(),
        lambda x: bool(x > 0),
        lambda x: x.tolist(),
        lambda x: torch.ones(1).copy_(x),
    ],
    ids=["cpu", "item", "bool", "tolist", "copy_"],
)
def test_once_a_program_has_run_only_fetch_may_read(platform, device, read):
    x = torch.ones(1, device=device)
    read(x)
    assert platform.graph_runner().run(ProgramKey("forward", Bucket("decode", 1, 1)), torch.neg, (x,)) is not None
    with pytest.raises(HostCopyError, match=r"in the middle of a step.*Platform\.fetch"):
        read(x)
    assert platform.fetch(x)().tolist() == [1.0]
    platform.synchronize(device)
    read(x)


@pytest.mark.parametrize("name", ["item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__array__"])
def test_a_program_that_reads_on_the_host_is_told_what_read_where_and_what_to_do(platform, device, name):
    def program(x):
        return getattr(x, name)()  # here

    runner, key = platform.graph_runner(), ProgramKey("forward", Bucket("decode", 1, 1))
    line = r"test_emulated_device\.py:\d+, in program: return getattr\(x, name\)\(\)  # here"
    with pytest.raises(HostCopyError, match=rf"Tensor\.{name}\(\) reads.*{line}.*`plan`.*Platform\.fetch"):
        runner.run(key, program, (torch.ones(1, device=device),))


def test_a_program_may_read_host_tensors_and_fetch(platform, device):
    runner, key = platform.graph_runner(), ProgramKey("forward", Bucket("decode", 1, 1))
    x = torch.ones(1, device=device)
    assert runner.run(key, lambda x: platform.fetch(x)().item() + torch.ones(1).item(), (x,)) == 2


def test_a_fetch_is_of_the_moment_it_was_asked_for(platform, device):
    x = torch.ones(2, device=device)
    wait = platform.fetch(x)
    x.fill_(9)
    assert wait().tolist() == [1, 1]


def test_operations_count_as_compiled_once_for_each_size_and_plain_value(platform, device):
    compiled, x, y = platform.torch_device.compiled, torch.ones(3, 4, device=device), torch.ones(5, device=device)
    torch.neg(x)
    before = len(compiled)
    torch.neg(x.clone().t().contiguous().t())
    torch.neg(x)
    copies = len(compiled) - before
    torch.neg(y)
    assert len(compiled) == before + copies + 1
    for value in (2, 3, 3, 2):
        torch.roll(y, value)
    torch.ones(7).to(device)
    assert len(compiled) == before + copies + 3
    assert platform.num_compilations() is None  # it takes any shape


def test_a_process_emulates_one_device():
    with pytest.raises(RuntimeError, match="this process emulates 'emulated' already"):
        install("another", BYTES)
