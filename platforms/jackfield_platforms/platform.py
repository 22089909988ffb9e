"""A platform: one kind of device, and how the core is to use it.

Three members are required: `name` and `device_type`, `capabilities`, `attention_backends`. Everything else has a
default that works for a device that torch already knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import msgspec
import torch
from torch import Tensor

from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.bucket import BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import Communicator, SingleRank
from jackfield_platforms.experts import ExpertsSpec, MakeExperts
from jackfield_platforms.fusion import DecoderSpec, Fuse
from jackfield_platforms.graph import EagerRunner, GraphRunner
from jackfield_platforms.linear import LinearOp
from jackfield_platforms.ops import OpTable


class Memory(msgspec.Struct, frozen=True):
    """Bytes of a device that this process could use: all of them, and those that are free now.

    `limit` says what set `total`. `shared`: other ranks on this machine draw on the same bytes.
    """

    total: int
    free: int
    limit: str = "device"
    shared: bool = False


class ServingSpec(msgspec.Struct, frozen=True):
    """What is about to be served, for a platform to object to."""

    dtype: str
    kv_dtype: str
    block_size: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    tensor_parallel_size: int = 1


class Platform(ABC):
    """One kind of device. An object, made once and passed down; two may live in one process."""

    # required
    name: ClassVar[str]
    device_type: ClassVar[str]

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the device can do, as data."""

    @abstractmethod
    def attention_backends(self) -> Sequence[type[AttentionBackend]]:  # type: ignore[type-arg]
        """Backends, best first; each may reject a need, and says why."""

    # optional
    def device(self, rank: int = 0) -> torch.device:
        """The torch device of a rank."""
        return torch.device(self.device_type, rank)

    def memory(self, device: torch.device) -> Memory:
        """Total and free bytes of `device`."""
        free, total = torch.accelerator.get_memory_info(device)
        return Memory(total=total, free=free)

    def watch_memory(self, device: torch.device) -> Callable[[], int] | None:
        """Begin to watch what is taken of `device`; the answer tells the most bytes that were taken at once since, over
        what was when it began. None: nobody counts, and the core estimates what a step takes instead of running one.
        """
        return None

    def synchronize(self, device: torch.device) -> None:
        """Wait until everything that was launched on `device` is done."""
        torch.accelerator.synchronize(device)

    def fetch(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Start copying `tensor` to the host; the returned function waits for that copy alone and gives the host
        tensor.
        """
        if tensor.device.type == "cpu":
            copy = tensor.clone()  # the caller may overwrite `tensor` at once
            return lambda: copy
        host = tensor.to("cpu", non_blocking=True)
        event = torch.Event(tensor.device)
        event.record()

        def wait() -> Tensor:
            event.synchronize()
            return host

        return wait

    def ops(self) -> OpTable:
        """Implementations of ops that are better here than plain torch."""
        return OpTable()

    def linear_ops(self, weight_bytes: int = 0) -> Sequence[LinearOp]:
        """Ways to multiply by a weight, best first; plain torch is tried after them.

        `weight_bytes` is what the whole checkpoint takes, 0 when unknown: some ways trade memory for speed.
        """
        return ()

    def fuse(self, spec: DecoderSpec) -> Fuse | str:
        """How to make one call of a whole decoder layer, from its packed weights; or why it stays in parts."""
        return "no fused layers"

    def experts(self, spec: ExpertsSpec) -> MakeExperts | str:
        """How to make one call of a layer's experts, from their packed weights; or why plain torch should serve."""
        return "no experts of its own"

    def buckets(self, limits: Limits) -> BucketPlan:
        """Sizes that run; the default runs any."""
        return BucketPlan()

    def graph_runner(self) -> GraphRunner:
        """How programs are captured and replayed; the default captures nothing."""
        return EagerRunner()

    def num_compilations(self) -> int | None:
        """How many programs the framework has compiled in this process so far, whoever wanted them; None: it does not
        say. Where shapes are static the core counts, logs and may forbid those that come after the warm-up.
        """
        return None

    def collectives(self) -> str:
        """The torch.distributed backend that `communicator` connects ranks with."""
        return torch.distributed.get_default_backend_for_device(self.device_type)

    def communicator(self, rank: int = 0, size: int = 1, meeting: str = "") -> Communicator:
        """Collectives among the `size` ranks of one model; waits until all are there. ValueError when there are none.

        `meeting` is the path of a file that does not exist yet and that every rank can write: where they find one
        another, and that may be removed afterwards. How many ranks may be, `Capabilities.max_ranks` says.
        """
        if size == 1:
            return SingleRank()
        from jackfield_platforms.torch_communicator import meet  # torch may be built without torch.distributed

        return meet(self.collectives(), rank, size, meeting)

    def check(self, serving: ServingSpec) -> list[str]:
        """Objections to what is about to be served, each a sentence that says what to change; never edits."""
        return []

    def describe(self) -> str:
        """One line for people: what device this is (model, cores, instruction sets)."""
        return self.name
