"""The sequences that have a slot: how they enter, change phase and leave, with slots and blocks in agreement."""

from __future__ import annotations

from collections.abc import Iterable

from jackfield.engine.adapter_slots import AdapterSlots
from jackfield.engine.kv_blocks import KVBlocks, PrefixHit
from jackfield.engine.rows import DecodeBatch
from jackfield.engine.scheduler_config import SchedulerConfig
from jackfield.engine.sequence import Phase, Sequence
from jackfield.engine.slot_columns import SlotColumns


class RunningSet:
    """Prefilling, decoding and draining sequences."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.columns = SlotColumns(config)
        self.blocks = KVBlocks(config)
        self.decoding = DecodeBatch(self.columns)
        self.prefilling: list[Sequence] = []  # best first
        self.num_draining = 0
        self.adapters = AdapterSlots(config.max_loras)

    def __len__(self) -> int:
        return len(self.decoding) + len(self.prefilling) + self.num_draining

    @property
    def has_free_slot(self) -> bool:
        return self.columns.num_free > 0

    def enter(self, sequence: Sequence, hit: PrefixHit) -> None:
        """Give a waiting sequence a slot and the blocks of its prefix hit."""
        self.columns.take(sequence, hit.length)
        sequence.adapter_slot = self.adapters.take(sequence.request.lora)
        self.blocks.start(sequence.slot, hit)
        sequence.phase = Phase.PREFILLING
        sequence.num_admissions += 1
        self.prefilling.append(sequence)
        self.prefilling.sort(key=lambda running: running.order)

    def finish_prefill(self, sequence: Sequence) -> None:
        """All known tokens are scheduled, and the next one will be sampled."""
        self.prefilling.remove(sequence)
        if len(sequence.tokens) + 1 < sequence.limit:
            sequence.phase = Phase.DECODING
            self.decoding.add(sequence)
        else:
            sequence.phase = Phase.DRAINING
            self.num_draining += 1

    def drain(self, sequences: Iterable[Sequence]) -> None:
        """The last allowed token of these decoding sequences was scheduled."""
        for sequence in sequences:
            self.decoding.remove(sequence)
            sequence.phase = Phase.DRAINING
            self.num_draining += 1

    def leave(self, sequence: Sequence, phase: Phase) -> None:
        """Take a sequence's slot and blocks; it goes on to `phase`, WAITING or FINISHED."""
        if sequence.phase is Phase.DECODING:
            self.decoding.remove(sequence)
        elif sequence.phase is Phase.PREFILLING:
            self.prefilling.remove(sequence)
        else:
            self.num_draining -= 1
        self.blocks.release(sequence.slot)
        self.columns.give(sequence)
        self.adapters.give(sequence.request.lora)
        sequence.adapter_slot = -1
        sequence.phase = phase

    def promised(self) -> list[int]:
        """Blocks of each group that newcomers must leave to those who run."""
        growing = ((sequence.slot, len(sequence.tokens)) for sequence in self.prefilling)
        return self.blocks.promised(growing, len(self.decoding))
