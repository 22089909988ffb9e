"""The sampler of fixed sizes gives the ids and logprobs of the one that runs any size, whatever rows ask for."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from jackfield.engine.step import Start
from jackfield.runner.planned_sampler import VARIANTS, PlannedSampler, SamplerInputs, Variant
from jackfield.runner.sampler import Sampled, Sampler
from jackfield.runner.slot_sampling import SlotSampling
from jackfield.runner.slot_tables import SlotTables, rows_of, wants_tables
from jackfield.sampling_params import SamplingParams
from jackfield_platforms.ops import OpSpec, OpTable, resolve

VOCAB, SLOTS, STEPS = 700, 12, 4
OPS = resolve(OpTable(), OpSpec("float32"))
HOST = torch.device("cpu")
STOPS = frozenset({3, 5})

GREEDY = SamplingParams(temperature=0.0)
DRAWN = (GREEDY, SamplingParams(seed=7), SamplingParams(temperature=0.4, min_p=0.05, seed=8))
FILTERED = (*DRAWN, SamplingParams(top_k=9, seed=9), SamplingParams(temperature=3.0, top_p=0.8, top_k=200, seed=10))
EDITED = (
    *FILTERED,
    SamplingParams(temperature=0.0, frequency_penalty=1.5, presence_penalty=0.5),
    SamplingParams(temperature=0.0, repetition_penalty=1.8, allowed_token_ids=[1, 2, 9, 600], min_tokens=2),
    SamplingParams(seed=11, logit_bias={4: 100.0, 6: -100.0}, repetition_penalty=1.1),
    SamplingParams(temperature=0.0, min_tokens=3, logprobs=3),
    SamplingParams(seed=12, allowed_token_ids=[3, 5, 8], min_tokens=16, logprobs=0),
)
MIXTURES: dict[Variant, tuple[SamplingParams, ...]] = {
    "greedy": (GREEDY, GREEDY, GREEDY),
    "drawn": DRAWN,
    "filtered": FILTERED,
    "edited": EDITED,
}


class Planned:
    """A `PlannedSampler` with the tables and inputs that a step gives it, padded to `size` rows."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sampler = PlannedSampler(VOCAB, SLOTS, OPS)
        self.tables = SlotTables.empty(SLOTS, VOCAB, HOST)
        for table in self.tables:
            table.random_(0, 2)  # what nobody wrote is not read
        self.variants: list[Variant] = []

    def start(self, start: Start) -> None:
        self.sampler.start(start)
        if wants_tables(start):
            self.tables.write(torch.tensor([start.slot]), rows_of(start, VOCAB))

    def sample(self, logits: torch.Tensor, rows, masks=None) -> Sampled:
        padded = torch.full((self.size, VOCAB), torch.nan)
        padded[: len(logits)] = logits
        inputs, variant = self.sampler.fill(rows, self.size, masks)
        self.variants.append(variant)
        ids = self.sampler.sample(variant, padded, inputs, self.tables)
        return Sampled(ids, self.sampler.logprobs(padded, ids), of_every_row=True)


def random_masks(generator: torch.Generator, count: int) -> torch.Tensor:
    """Each forbids about half of the ids, none of those that a row may insist on."""
    masks = torch.randint(-(2**31), 2**31 - 1, (count, -(-VOCAB // 32)), generator=generator, dtype=torch.int64)
    masks[:, 0] |= 0b1100101110
    masks[:, 600 // 32] |= 1 << (600 % 32)
    return masks.to(torch.int32)


@pytest.mark.parametrize("with_masks", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_ids_are_those_of_any_size(variant, with_masks):
    params = MIXTURES[variant]
    generator = torch.Generator().manual_seed(len(params))
    plain, planned, slots = Sampler(VOCAB, HOST, may_wait=False, ops=OPS), Planned(16), SlotSampling(SLOTS, VOCAB)
    numbers = torch.randperm(SLOTS, generator=generator)[: len(params)].sort().values.numpy()
    for slot, one in zip(numbers.tolist(), params, strict=True):
        seeded = msgspec.structs.replace(one, seed=one.seed or 0)
        tokens = torch.randint(0, VOCAB, (9,), generator=generator).int().numpy()
        start = Start(slot, seeded, STOPS, prompt_len=6, tokens=tokens.tobytes())
        for part in (plain, planned, slots):
            part.start(start)
    for step in range(STEPS):
        logits = torch.randn(len(params), VOCAB, generator=generator) * 2
        logits[:, 3] += 9  # a stop that would always be chosen
        masks = random_masks(generator, len(params)) if with_masks else None
        rows = slots.rows(numbers, np.full(len(params), 6 + step))
        wanted, found = plain.sample(logits.clone(), rows, masks), planned.sample(logits, rows, masks)
        assert torch.equal(found.ids[: len(params)], wanted.ids)
        if wanted.logprobs is not None:
            for own, other in zip(wanted.logprobs, found.logprobs, strict=True):
                asked = other[torch.from_numpy(rows.with_logprobs)]
                torch.testing.assert_close(asked[:, : own.shape[1]] if own.dim() == 2 else asked, own)
    assert set(planned.variants) == {"edited" if with_masks else variant}


def test_rows_that_pad_are_of_nobody_and_greedy():
    inputs = SamplerInputs.blank(5, VOCAB, nobody=SLOTS)
    temperature, top_p, min_p, _, repetition, frequency, presence = inputs.numbers
    top_k, slots, edited, late, penalised = inputs.choices
    for values, value in (
        (temperature, 0), (top_p, 1), (min_p, 0), (repetition, 1), (frequency, 0), (presence, 0), (top_k, VOCAB),
        (slots, SLOTS), (edited, 0), (late, 0), (penalised, 0), (inputs.masks, -1),
    ):  # fmt: skip
        assert (values == value).all()


def test_a_slot_that_is_taken_again_forgets():
    planned, slots = Planned(4), SlotSampling(SLOTS, VOCAB)
    first = SamplingParams(temperature=0.0, allowed_token_ids=[7], frequency_penalty=2.0, seed=0)
    second = SamplingParams(temperature=0.0, logit_bias={9: 0.5}, seed=0)
    logits = torch.zeros(1, VOCAB)
    logits[0, 8] = 1.0
    for params, wanted in ((first, 7), (second, 8), (GREEDY, 8)):
        start = Start(2, msgspec.structs.replace(params, seed=0), frozenset(), 1, np.array([1], np.int32).tobytes())
        planned.start(start)
        slots.start(start)
        assert planned.sample(logits, slots.rows(np.array([2]), np.array([1]))).ids[0] == wanted
