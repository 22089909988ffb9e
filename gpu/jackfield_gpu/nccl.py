"""Collectives of several GPUs: NCCL, or on AMD RCCL, which torch calls by the same name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from jackfield_platforms.torch_communicator import PEER_SECONDS, TorchCommunicator


def meet(device: torch.device, rank: int, size: int, meeting: str) -> TorchCommunicator:
    """Wait until all ranks are connected; `meeting` is a file that every rank can write and that may then go.

    ValueError when this torch was built without it. Collectives are queued on the device's current stream: a wait for
    one holds the stream, never the host, so that they may be inside a capture.
    """
    group_type: Any = getattr(dist, "ProcessGroupNCCL", None)
    if group_type is None:
        raise ValueError(f"torch {torch.__version__} was built without NCCL; serve with tensor_parallel_size 1")
    options = group_type.Options()
    options._timeout = timedelta(seconds=PEER_SECONDS)
    store = dist.FileStore(meeting, size)  # type: ignore[attr-defined]
    group = group_type(store, rank, size, options)
    connected = torch.zeros(1, device=device)
    group.allreduce([connected]).wait()
    torch.cuda.synchronize(device)  # until then a rank may still read the file
    return TorchCommunicator(group)
