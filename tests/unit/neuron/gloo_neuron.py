"""Neuron's collectives over gloo: the class is a client of torch.distributed, and `xla` is only on the device."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import torch.distributed as dist

from jackfield_neuron.communicator import GroupCommunicator
from jackfield_neuron.strict import NeuronStrict
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import Communicator


class GlooNeuron(NeuronStrict):
    """Several ranks on the CPU."""

    def capabilities(self) -> Capabilities:
        return msgspec.structs.replace(super().capabilities(), max_ranks=2, dtypes=("float32", "bfloat16"))

    def communicator(self, rank: int = 0, size: int = 1, meeting: str = "") -> Communicator:
        store = dist.FileStore(meeting, size)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))
        return GroupCommunicator(dist.group.WORLD)
