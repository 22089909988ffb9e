"""Collectives through torch.distributed, without its global process group: many models may run in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from jackfield_platforms.communicator import Communicator

PEER_SECONDS = 300.0
"""How long a rank waits for one that is alive and silent. A rank that has died is noticed at once."""


class TorchCommunicator(Communicator):
    """Over a process group of torch's (`torch.distributed.ProcessGroup…`), which this object owns."""

    def __init__(self, group: Any) -> None:
        self._group = group
        self.rank, self.size = group.rank(), group.size()

    def all_reduce(self, x: Tensor) -> Tensor:
        if not x.numel():
            return x
        x = x.contiguous()
        self._group.allreduce([x]).wait()
        return x

    def all_gather(self, x: Tensor, dim: int = -1) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.size)]
        if x.numel():
            self._group.allgather([parts], [x.contiguous()]).wait()
        return torch.cat(parts, dim)

    def broadcast(self, x: Tensor, source: int = 0) -> Tensor:
        if not x.numel():
            return x
        x, options = x.contiguous(), dist.BroadcastOptions()
        options.rootRank = source
        self._group.broadcast([x], options).wait()
        return x


def meet(backend: str, rank: int, size: int, meeting: str) -> TorchCommunicator:
    """Wait until all ranks are connected; the file may then go. ValueError when `backend` is not made here."""
    if backend not in _GROUPS:
        raise ValueError(
            f"no collectives are made here with the torch.distributed backend {backend!r}, only with "
            f"{', '.join(_GROUPS)}: override Platform.communicator (TorchCommunicator takes any process group)"
        )
    return TorchCommunicator(_GROUPS[backend](rank, size, meeting))


def _gloo(rank: int, size: int, meeting: str) -> Any:
    gloo: Any = dist.ProcessGroupGloo
    options = gloo._Options()
    options._devices = [gloo.create_device(hostname="127.0.0.1")]  # ranks of one model are on one machine
    options._timeout = timedelta(seconds=PEER_SECONDS)
    group = gloo(dist.FileStore(meeting, size), rank, size, options)  # type: ignore[attr-defined]
    group.barrier().wait()  # until then a rank may still read the file
    return group


_GROUPS: Mapping[str, Callable[[int, int, str], Any]] = {"gloo": _gloo}
