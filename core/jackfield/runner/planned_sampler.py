"""The sampler as programs of fixed sizes: what differs from row to row is in tensors, what a step needs in the variant.

It gives the ids of `Sampler`, which changes only the rows that ask for it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jackfield.engine.step import Start
from jackfield.runner.draw import draw
from jackfield.runner.sampler import LOWEST_TEMPERATURE, Logprobs, logprobs, unpack
from jackfield.runner.slot_sampling import SamplingRows
from jackfield.runner.slot_tables import SlotTables
from jackfield.sampling_params import MAX_LOGPROBS
from jackfield_platforms.ops import Ops

Variant = Literal["greedy", "drawn", "filtered", "edited"]
VARIANTS: tuple[Variant, ...] = ("greedy", "drawn", "filtered", "edited")
"""Each does what those before it do: the likeliest, temperature and min-p, top-k and top-p, edits and masks."""
_NEUTRAL = (1.0, 0.0, 0.0)  # factors of penalties


class SamplerInputs(NamedTuple):
    """What a program of `size` rows reads of them, on the device; host tensors of the same shapes are copied in."""

    numbers: Tensor  # float32 [7, size]: temperature, top-p, min-p, uniform number, three factors of penalties
    choices: Tensor  # int64 [5, size]: top-k; slot; and whether logits are edited, cannot end yet, are penalised
    masks: Tensor  # int32 [size, ceil(vocab / 32)] of ids that are allowed, bit by bit

    @classmethod
    def blank(cls, size: int, vocab: int, nobody: int) -> SamplerInputs:
        """Rows that ask for nothing, in the slot `nobody`."""
        numbers = torch.tensor([0.0, 1.0, 0.0, 0.0, *_NEUTRAL]).unsqueeze(1).repeat(1, size)
        choices = torch.tensor([vocab, nobody, 0, 0, 0]).unsqueeze(1).repeat(1, size)
        return cls(numbers, choices, torch.full((size, -(-vocab // 32)), -1, dtype=torch.int32))

    def copy_(self, other: SamplerInputs, *, with_masks: bool) -> None:
        """Take what `other` holds."""
        self.numbers.copy_(other.numbers)
        self.choices.copy_(other.choices)
        if with_masks:
            self.masks.copy_(other.masks)


class PlannedSampler:
    """Fills inputs on the host; its programs run on the device."""

    def __init__(self, vocab: int, num_slots: int, ops: Ops) -> None:
        self._vocab, self._nobody, self._ops = vocab, num_slots, ops
        self._factors = np.tile(np.array(_NEUTRAL, np.float32), (num_slots, 1))
        self._min_tokens = np.zeros(num_slots, np.int64)

    def start(self, start: Start) -> None:
        """A sequence takes a slot."""
        sampling = start.sampling
        self._factors[start.slot] = (
            sampling.repetition_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        )
        self._min_tokens[start.slot] = sampling.min_tokens

    def fill(self, rows: SamplingRows, size: int, masks: Tensor | None) -> tuple[SamplerInputs, Variant]:
        """The inputs of a step's rows, padded to `size`, and the first variant that does all that they want."""
        inputs = SamplerInputs.blank(size, self._vocab, self._nobody)
        numbers, choices, count = inputs.numbers.numpy(), inputs.choices.numpy(), len(rows.slots)
        choices[1, :count] = rows.slots
        if (random := rows.random) is not None:
            numbers[:4, random.rows] = random.temperature, random.top_p, random.min_p, random.uniforms
            choices[0, random.rows] = random.top_k
        choices[2, rows.edited] = 1
        choices[3, rows.edited] = (rows.num_generated < self._min_tokens[rows.slots])[rows.edited]
        choices[4, rows.penalised] = 1
        numbers[4:, rows.penalised] = self._factors[rows.slots[rows.penalised]].T
        if masks is not None:
            inputs.masks[:count] = masks
        edited = rows.edited.size or rows.penalised.size or masks is not None
        return inputs, "edited" if edited else _variant_of(rows)

    def sample(self, variant: Variant, logits: Tensor, inputs: SamplerInputs, tables: SlotTables) -> Tensor:
        """A program: ids `[size]` for `logits` `[size, vocab]`."""
        top_k, slots, edited, late, penalised = inputs.choices.unbind(0)
        if variant == "edited":
            logits = logits.float() + torch.where(edited.bool().unsqueeze(1), tables.edits.index_select(0, slots), 0.0)
            early = late.bool().unsqueeze(1) & tables.stops.index_select(0, slots)
            logits = logits.masked_fill(early, -torch.inf)
            logits = self._ops.penalize(logits, tables.seen, slots, inputs.numbers[4:].t().contiguous())
            logits = logits.masked_fill(~unpack(inputs.masks, self._vocab), -torch.inf)
        ids = self._ops.argmax(logits)
        if variant != "greedy":
            filtered = variant != "drawn"
            ids = torch.where(inputs.numbers[0] > 0, self._drawn(logits.float(), inputs, top_k, filtered), ids)
        if variant == "edited":
            tables.seen.index_put_((slots, ids), (2 * penalised).int(), accumulate=True)
        return ids

    def logprobs(self, logits: Tensor, ids: Tensor) -> Logprobs:
        """A program: logprobs of the model's own distribution, of as many alternatives as anyone may want."""
        return logprobs(logits.float(), ids, min(MAX_LOGPROBS, self._vocab))

    def _drawn(self, logits: Tensor, inputs: SamplerInputs, top_k: Tensor, filtered: bool) -> Tensor:
        temperature, top_p, min_p, uniforms = inputs.numbers[:4].unbind(0)
        logits = logits / temperature.clamp(min=LOWEST_TEMPERATURE).unsqueeze(-1)
        if filtered:
            threshold = self._ops.sampling_threshold(logits, top_k, top_p)
            logits = logits.masked_fill(logits < threshold, -torch.inf)
        floor = logits.amax(-1, keepdim=True) + min_p.log().unsqueeze(-1)  # min-p of 0: -inf
        return draw(logits.masked_fill(logits < floor, -torch.inf), uniforms)


def _variant_of(rows: SamplingRows) -> Variant:
    if rows.random is None:
        return "greedy"
    return "filtered" if rows.random.filtered else "drawn"
