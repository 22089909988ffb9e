"""Linear layers whose weights are cut over all devices of the process, as in Megatron-LM (Shoeybi et al., 2019)."""

from __future__ import annotations

from typing import Literal

from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, Packed, TorchLinear
from jackfield_xla.spmd import SpmdCommunicator


class ShardedLinear(TorchLinear):
    """A plain weight, annotated along its outputs (`column`) or inputs (`row`); sums over parts are the compiler's."""

    def __init__(self, comm: SpmdCommunicator, shard: Literal["column", "row"]) -> None:
        self._comm, self._shard = comm, shard
        self._dim = 0 if shard == "column" else 1
        self.name = f"spmd-{shard}"

    def rejects(self, encoding: Encoding, layer: LinearSpec) -> str | None:
        if layer.shard != self._shard:
            return f"it cuts {self._shard} layers, and this is a {layer.shard} one"
        size, devices = layer.out_size if self._dim == 0 else layer.in_size, self._comm.num_devices
        if size % devices:
            return f"{size} numbers cannot be cut into {devices} equal parts"
        return super().rejects(encoding, layer)

    def pack(self, encoded: Encoded) -> Packed:
        self._comm.shard(encoded.data, self._dim)
        if encoded.bias is not None and self._dim == 0:
            self._comm.shard(encoded.bias, 0)
        return super().pack(encoded)
