"""Tensor parallelism by annotation: one process, one rank, whole tensors; XLA cuts them and adds the collectives.

PyTorch/XLA documentation, "PyTorch/XLA SPMD User Guide": `torch_xla.runtime.use_spmd` before the first tensor, a `Mesh`
of all devices, `mark_sharding` of weights. Products of annotated weights are partitioned by the compiler (GSPMD; Xu et
al., 2021).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from jackfield_platforms.communicator import SingleRank

AXIS = "tp"
VARIABLE = "JACKFIELD_XLA_SPMD"
"""1: linear layers are cut over all devices of the process. Attention and its cache are whole on each."""


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the user asked for it; ValueError when the variable is neither 0 nor 1."""
    text = environ.get(VARIABLE, "").strip()
    if text not in ("", "0", "1"):
        raise ValueError(f"{VARIABLE} is 0 or 1; got {text!r}")
    return text == "1"


class SpmdCommunicator(SingleRank):
    """One rank over all devices of the process. Collectives are the identity: partial sums are the compiler's."""

    def __init__(self) -> None:
        """Turns annotation on for the process, which must be before its first tensor on a device."""
        from torch_xla import runtime
        from torch_xla.distributed import spmd

        runtime.use_spmd()
        self.num_devices: int = runtime.global_runtime_device_count()
        self._mesh: Any = spmd.Mesh(np.arange(self.num_devices), (self.num_devices,), (AXIS,))

    def shard(self, tensor: Tensor, dim: int) -> Tensor:
        """Cut `tensor` along `dim`, a part a device; ValueError where they would not be equal. The same tensor."""
        from torch_xla.distributed import spmd

        if tensor.shape[dim] % self.num_devices:
            raise ValueError(
                f"Dimension {dim} of {tuple(tensor.shape)} cannot be cut into {self.num_devices} equal parts; "
                "serve on fewer devices"
            )
        spec = [None] * tensor.dim()
        spec[dim] = AXIS  # type: ignore[call-overload]
        spmd.mark_sharding(tensor, self._mesh, tuple(spec))
        return tensor

    def replicate(self, tensor: Tensor) -> Tensor:
        """Keep `tensor` whole on every device. The same tensor."""
        from torch_xla.distributed import spmd

        spmd.mark_sharding(tensor, self._mesh, (None,) * tensor.dim())
        return tensor
