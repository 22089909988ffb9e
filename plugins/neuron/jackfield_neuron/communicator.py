"""Collectives among NeuronCores, a process each, through torch.distributed's backend `xla`.

AWS Neuron documentation, "Developer Guide for Training with PyTorch NeuronX": importing `torch_xla.distributed.
xla_backend` registers the backend. PyTorch/XLA documentation, "Support for Torch Distributed": its collectives become
operations of the graph that is being recorded.
"""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from jackfield_platforms.communicator import Communicator
from jackfield_platforms.torch_communicator import PEER_SECONDS


class GroupCommunicator(Communicator):
    """Over a group of torch.distributed's, by its public functions alone: the backend's own methods take other
    arguments than those of torch's groups.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def all_reduce(self, x: Tensor) -> Tensor:
        if not x.numel():
            return x
        x = x.contiguous()
        dist.all_reduce(x, group=self._group)
        return x

    def all_gather(self, x: Tensor, dim: int = -1) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.size)]
        if x.numel():
            dist.all_gather(parts, x.contiguous(), group=self._group)
        return torch.cat(parts, dim)

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        if not x.numel():
            return x
        x = x.contiguous()
        dist.broadcast(x, src=source, group=self._group)
        return x


def meet(device: torch.device, rank: int, size: int, meeting: str) -> GroupCommunicator:
    """Wait until all ranks are there; `meeting` is a file that every rank can write and that may then go.

    The backend takes the number of ranks from torch-xla's runtime, which counts one until it is told that the device is
    one of several (`set_replication`).
    """
    xla_model: Any = importlib.import_module("torch_xla.core.xla_model")
    importlib.import_module("torch_xla.distributed.xla_backend")
    xla_model.set_replication(device, [device])
    store = dist.FileStore(meeting, size)  # type: ignore[attr-defined]
    dist.init_process_group("xla", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=PEER_SECONDS))
    communicator = GroupCommunicator(dist.group.WORLD)
    communicator.all_reduce(torch.ones(1, device=device)).cpu()  # until then a rank may still read the file
    return communicator
