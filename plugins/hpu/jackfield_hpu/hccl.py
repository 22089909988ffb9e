"""Collectives of several Gaudis: torch.distributed's backend `hccl`, which comes with the vendor's bridge.

Importing `habana_frameworks.torch.distributed.hccl` registers it (Intel Gaudi documentation, "Distributed Training with
PyTorch"; gaudi-pytorch-bridge, `torch/distributed/hccl`). That import keeps torch.distributed's own functions out of
compiled programs, so that programs call the functional ones, which torch.compile holds.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from jackfield_hpu.vendor import module
from jackfield_platforms.communicator import Communicator
from jackfield_platforms.torch_communicator import PEER_SECONDS

BACKEND = "hccl"


class GroupCommunicator(Communicator):
    """Over the process's one group: a process has one Gaudi, so that no two models of several ranks share it."""

    def __init__(self, group: Any) -> None:
        self._group, self.rank, self.size = group, dist.get_rank(group), dist.get_world_size(group)

    def all_reduce(self, x: Tensor) -> Tensor:
        return _waited(_functional().all_reduce(x.contiguous(), "sum", self._group)) if x.numel() else x

    def all_gather(self, x: Tensor, dim: int = -1) -> Tensor:
        if not x.numel():
            return torch.cat([x] * self.size, dim)
        parts = _waited(_functional().all_gather_tensor(x.contiguous(), 0, self._group))
        return torch.cat(parts.chunk(self.size, 0), dim)

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        return _waited(_functional().broadcast(x.contiguous(), source, self._group)) if x.numel() else x


def meet(backend: str, rank: int, size: int, meeting: str) -> GroupCommunicator:
    """Wait until all ranks are connected; the file `meeting` may then go. ValueError when this process has a group."""
    if dist.is_initialized():
        raise ValueError("this process has met other ranks before, and has one device; start another process")
    if backend == BACKEND:
        module("distributed.hccl")
    store = dist.FileStore(meeting, size)  # type: ignore[attr-defined]
    seconds = timedelta(seconds=PEER_SECONDS)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=seconds)
    dist.barrier()  # until then a rank may still read the file
    return GroupCommunicator(dist.group.WORLD)


def _functional() -> Any:
    import torch.distributed._functional_collectives as functional

    return functional


def _waited(x: Tensor) -> Tensor:
    """What a collective gave, as an ordinary tensor; inside a compiled program it is one."""
    result: Tensor = _functional().wait_tensor(x)
    return result
