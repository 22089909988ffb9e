"""NeuronCores through torch-neuronx, which is torch-xla with the vendor's runtime and compiler."""

from __future__ import annotations

import os

import msgspec
import torch

from jackfield_neuron.communicator import meet
from jackfield_neuron.cores import VISIBLE, visible_cores
from jackfield_neuron.platform import DTYPES, NeuronPlatform
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import Communicator, SingleRank
from jackfield_xla.host import XlaOnHost
from jackfield_xla.platform import XlaPlatform


class XlaNeuron(NeuronPlatform, XlaPlatform):
    """A process has one core, which torch-xla calls its device."""

    name = "neuron"
    device_type = XlaPlatform.device_type
    runtime = "NEURON"

    def capabilities(self) -> Capabilities:
        return msgspec.structs.replace(super().capabilities(), max_ranks=None)

    def device(self, rank: int = 0) -> torch.device:
        """Of every rank the first, since a rank sees no other."""
        return super().device()

    def communicator(self, rank: int = 0, size: int = 1, meeting: str = "") -> Communicator:
        return SingleRank() if size == 1 else meet(self.device(), rank, size, meeting)

    def describe(self) -> str:
        cores = visible_cores(os.environ)
        return f"NeuronCore {cores[0]}" if cores else f"a NeuronCore that {VISIBLE} does not name"


class NeuronOnHost(XlaOnHost, XlaNeuron):
    """The same programs through torch-xla on the host, for tests. XLA sums float16 in float16 there: left out."""

    name = "neuron-cpu"

    def capabilities(self) -> Capabilities:
        dtypes = tuple(dtype for dtype in DTYPES if dtype != "float16")
        return msgspec.structs.replace(super().capabilities(), dtypes=dtypes, kv_dtypes=dtypes, max_ranks=1)
