"""The sampler of fixed sizes as the runner uses it: captured on the platform, one slot for each row."""

from __future__ import annotations

from functools import partial
from itertools import count

import torch
from torch import Tensor

from jackfield.engine.step import Start
from jackfield.runner.captures import Captures
from jackfield.runner.planned_sampler import PlannedSampler, SamplerInputs, Variant
from jackfield.runner.sampler import Sampled
from jackfield.runner.slot_sampling import SamplingRows
from jackfield.runner.slot_tables import SlotTables, rows_of, wants_tables
from jackfield_platforms.ops import Ops
from jackfield_platforms.platform import Platform

_numbers = count()


class PlannedRows:
    """Programs of `size` rows, captured when they are first wanted."""

    def __init__(self, platform: Platform, vocab: int, size: int, ops: Ops) -> None:
        self._device, self._vocab, self._size = platform.device(), vocab, size
        self._sampler, self._captures = PlannedSampler(vocab, size, ops), Captures(platform.graph_runner())
        self._tables = SlotTables.empty(size, vocab, self._device)
        self._logits = torch.zeros(size, vocab, device=self._device)
        blank = SamplerInputs.blank(size, vocab, size)
        self._inputs = SamplerInputs(*(tensor.to(self._device) for tensor in blank))
        self._ids = torch.zeros(size, dtype=torch.int64, device=self._device)
        self._captured: set[Variant] = set()
        self._program = f"sample {next(_numbers)}"  # a platform has one graph runner for all of these

    def start(self, start: Start) -> None:
        """A sequence takes a slot."""
        self._sampler.start(start)
        if wants_tables(start):
            rows = SlotTables(*(row.to(self._device) for row in rows_of(start, self._vocab)))
            self._tables.write(torch.tensor([start.slot], device=self._device), rows)

    def sample(self, logits: Tensor, rows: SamplingRows, masks: Tensor | None = None) -> Sampled:
        """As of `Sampler`, for `size` rows; logprobs are of every row."""
        self._logits.copy_(logits)
        inputs, variant = self._sampler.fill(rows, self._size, None if masks is None else masks.cpu())
        self._inputs.copy_(inputs, with_masks=True)
        buffers = self._logits, self._inputs, self._tables, self._ids
        program = partial(self._sample, variant)
        if variant not in self._captured:
            self._captured.add(variant)
            self._captures.capture(self._program, self._size, program, *buffers, variant=variant)
        else:
            self._captures.run(self._program, self._size, program, *buffers, variant=variant)
        return Sampled(self._ids.clone(), self._sampler.logprobs(self._logits, self._ids), of_every_row=True)

    def _sample(
        self, variant: Variant, logits: Tensor, inputs: SamplerInputs, tables: SlotTables, ids: Tensor
    ) -> tuple[()]:
        ids.copy_(self._sampler.sample(variant, logits, inputs, tables))
        return ()
