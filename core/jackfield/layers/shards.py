"""Which part of a model is one rank's (tensor parallelism as in Megatron-LM; Shoeybi et al., 2019)."""

from __future__ import annotations

import msgspec

from jackfield.config.model_config import ModelConfig
from jackfield_platforms.communicator import Communicator


class Shard(msgspec.Struct, frozen=True):
    """Entries `first : first + size` of a dimension of `whole` entries; those past its end are padding."""

    first: int
    size: int
    whole: int

    @property
    def stored(self) -> tuple[int, int]:
        """First and last entry that exist; equal where all are padding."""
        return min(self.first, self.whole), min(self.first + self.size, self.whole)

    @property
    def is_padded(self) -> bool:
        """Whether the part reaches past the whole's end."""
        return self.first + self.size > self.whole

    def times(self, number: int) -> Shard:
        """The same part where each entry is `number` entries."""
        return Shard(self.first * number, self.size * number, self.whole * number)


def part(whole: int, comm: Communicator) -> Shard:
    """This rank's part of `whole` entries, all ranks' parts of one size; the last ones may be padded."""
    size = -(-whole // comm.size)
    return Shard(comm.rank * size, size, whole)


def query_heads(config: ModelConfig, comm: Communicator) -> Shard:
    """This rank's query heads."""
    return part(config.num_heads, comm)


def kv_heads(config: ModelConfig, comm: Communicator) -> Shard:
    """The key and value heads that this rank's query heads read; several ranks hold the same where there are fewer."""
    whole = config.num_kv_heads
    return Shard(comm.rank * whole // comm.size, max(1, whole // comm.size), whole)
