"""What changes every step for every running sequence, in arrays by slot: a step takes a few array operations."""

from __future__ import annotations

import numpy as np

from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.sequence import Phase, Sequence


class SlotColumns:
    """One entry a slot. While it decodes, a sequence has `num_computed + 1 - num_known` tokens in flight."""

    def __init__(self, config: SchedulerConfig) -> None:
        slots = config.max_num_seqs
        self.tokens = np.zeros((slots, config.max_model_len), np.int32)  # known ids; memory only where written
        self.num_known = np.zeros(slots, np.int32)
        self.num_computed = np.zeros(slots, np.int32)  # scheduled ones included
        self.num_indexed = np.zeros(slots, np.int32)  # tokens whose blocks the prefix index has seen
        self.limits = np.zeros(slots, np.int32)
        self.max_drafts = np.zeros(slots, np.int32)
        self.first_lens = np.zeros(slots, np.int32)  # known tokens after the first sampled one
        self.tenures = np.zeros(slots, np.int64)  # grows when a slot is given back: tells apart its tenants
        self._num_drafts = config.num_drafts
        self._free = list(range(slots - 1, -1, -1))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def take(self, sequence: Sequence, num_cached: int) -> None:
        """Move a sequence into a free slot, where `num_cached` of its tokens are computed already."""
        slot = sequence.slot = self._free.pop()
        self.tokens[slot, : len(sequence.tokens)] = sequence.tokens
        self.num_known[slot] = len(sequence.tokens)
        self.num_computed[slot] = self.num_indexed[slot] = num_cached
        self.limits[slot] = sequence.limit
        self.first_lens[slot] = sequence.prompt_len + 1
        # penalties grow with each sampled token: behind a draft that is not sampled yet they are unknown
        self.max_drafts[slot] = 0 if sequence.request.sampling.has_penalties else self._num_drafts

    def give(self, sequence: Sequence) -> None:
        """Move a sequence out of its slot, with the ids known by now."""
        slot, sequence.slot = sequence.slot, -1
        known = int(self.num_known[slot])
        sequence.tokens = self.tokens[slot, :known].copy()
        if sequence.phase in (Phase.DECODING, Phase.DRAINING):
            sequence.num_in_flight = int(self.num_computed[slot]) + 1 - known
        self.tenures[slot] += 1
        self._free.append(slot)
