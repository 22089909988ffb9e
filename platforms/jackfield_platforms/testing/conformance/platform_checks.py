"""The platform's other members: what it states, how results reach the host, collectives of one rank."""

from __future__ import annotations

import torch
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import Impl, OpTable
from jackfield_platforms.platform import ServingSpec
from jackfield_platforms.testing.conformance.mismatch import compare, expect
from jackfield_platforms.testing.conformance.subject import Subject


def check_capabilities_are_consistent(subject: Subject) -> None:
    """Dtypes are torch's, limits are positive, and the answer is the same when it is asked again."""
    caps = subject.platform.capabilities()
    expect(isinstance(caps, Capabilities), f"wanted Capabilities; found {caps!r}")
    expect(caps == subject.platform.capabilities(), "capabilities() gives another answer the second time")
    expect(caps.dtypes and caps.kv_dtypes, "dtypes and kv_dtypes must each name one dtype at least")
    for dtype in (*caps.dtypes, *caps.kv_dtypes):
        expect(torch_dtype(dtype).is_floating_point, f"{dtype} is no floating-point dtype")
    expect(set(caps.dtypes) & set(caps.kv_dtypes), "no dtype is listed for the model and for the cache")
    expect(0 < caps.memory_utilization <= 1, f"memory_utilization is {caps.memory_utilization}")
    rules = caps.scheduling
    expect(rules.max_in_flight >= 1, f"max_in_flight is {rules.max_in_flight}")
    expect(rules.chunk_multiple >= 1, f"chunk_multiple is {rules.chunk_multiple}")
    expect(rules.max_prefills is None or rules.max_prefills >= 1, f"max_prefills is {rules.max_prefills}")


def check_the_platform_says_what_it_is(subject: Subject) -> None:
    """A name, a torch device of the stated type, a line for people, objections as a list of sentences."""
    platform = subject.platform
    expect(platform.name == subject.name, f"wanted the name {subject.name!r}; found {platform.name!r}")
    expect(platform.device().type == platform.device_type, f"{platform.device()} is no {platform.device_type!r}")
    told = platform.describe()
    expect(told and "\n" not in told, f"wanted one line from describe(); found {told!r}")
    caps = platform.capabilities()
    objections = platform.check(ServingSpec(caps.dtypes[0], caps.kv_dtypes[0], 16, 1024, 8, 512))
    sentences = isinstance(objections, list) and all(isinstance(one, str) and one for one in objections)
    expect(sentences, f"wanted a list of sentences from check(); found {objections!r}")


def check_the_table_is_one_of_ops(subject: Subject) -> None:
    """`ops()` gives an OpTable of Impls."""
    table = subject.platform.ops()
    expect(isinstance(table, OpTable), f"wanted an OpTable from ops(); found {table!r}")
    strangers = [impl for op in OpTable.__struct_fields__ for impl in getattr(table, op) if not isinstance(impl, Impl)]
    expect(not strangers, f"wanted Impl objects in the table; found {strangers}")


@torch.inference_mode()
def check_fetched_values_survive_an_overwrite(subject: Subject, seed: int) -> None:
    """The device goes on and reuses the tensor; what was fetched is what it held, in whatever order one waits."""
    device, sources, waits = subject.platform.device(), [], []
    for part in range(4):
        source = _numbers(seed + part)
        on_device = source.to(device, copy=True)
        waits.append(subject.platform.fetch(on_device))
        on_device.fill_(-1)
        sources.append(source)
    for place in (2, 0, 3, 1):
        got = waits[place]()
        expect(got.device.type == "cpu", f"fetched onto {got.device}")
        compare(got, sources[place].double(), 0.0, f"fetch {place}")


def _numbers(seed: int) -> Tensor:
    """Ids and log-probabilities are fetched."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2**20, (257,), generator=generator) if seed % 2 else torch.randn(31, 5, generator=generator)


@torch.inference_mode()
def check_fetch_sees_what_was_launched_before(subject: Subject, seed: int) -> None:
    """A long computation before the fetch is part of the value."""
    x = torch.eye(64)[torch.randperm(64, generator=torch.Generator().manual_seed(seed))]
    power, wanted = x.to(subject.platform.device()), x.double()
    for _ in range(50):
        power, wanted = power @ power, wanted @ wanted
    got = subject.platform.fetch(power)()
    compare(got, wanted, 0.0, "a permutation multiplied by itself")
    subject.platform.synchronize(subject.platform.device())


@torch.inference_mode()
def check_one_rank_talks_to_itself(subject: Subject, seed: int) -> None:
    """Collectives of one rank are the identity."""
    comm = subject.platform.communicator(0, 1)
    expect((comm.rank, comm.size) == (0, 1), f"wanted rank 0 of 1; found {comm.rank} of {comm.size}")
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))
    given = x.to(subject.platform.device())
    compare(comm.all_reduce(given.clone()), x.double(), 0.0, "all_reduce")
    for dim in (-1, 0):
        compare(comm.all_gather(given.clone(), dim), x.double(), 0.0, f"all_gather along {dim}")
