"""Counts that grow with each step, of slots that come, go and are taken again, beside counts kept in plain lists."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from jackfield.engine.step import Start
from jackfield.runner.penalties import Penalties
from jackfield.runner.slot_sampling import SlotSampling
from jackfield.sampling_params import SamplingParams
from jackfield_platforms import reference

VOCAB, SLOTS, STEPS = 40, 9, 60
ASKED = {"repetition_penalty": 1.7, "frequency_penalty": -0.4, "presence_penalty": 0.9}


def penalised(logits: torch.Tensor, known: list[int], prompt_len: int, params: SamplingParams) -> torch.Tensor:
    """What OpenAI and Keskar et al. define, id by id, in float64."""
    line, generated = logits.double(), Counter(known[prompt_len:])
    for token in set(known):
        factor = params.repetition_penalty
        line[token] = line[token] / factor if line[token] > 0 else line[token] * factor
    for token, count in generated.items():
        line[token] -= params.frequency_penalty * count + params.presence_penalty
    return line


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_penalised_by_what_their_own_sequence_holds(seed: int) -> None:
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    made, slots = Penalties(VOCAB, torch.device("cpu"), reference.penalize), SlotSampling(SLOTS, VOCAB)
    held: dict[int, tuple[list[int], int, SamplingParams]] = {}
    for _ in range(STEPS):
        slot = int(rng.integers(SLOTS))
        tokens = rng.integers(0, VOCAB, int(rng.integers(1, 12))).tolist()
        prompt_len = int(rng.integers(1, len(tokens) + 1))
        params = SamplingParams(temperature=0, seed=0, **(ASKED if rng.random() < 0.6 else {}))
        start = Start(slot, params, frozenset(), prompt_len, np.array(tokens, np.int32).tobytes())
        made.start(start), slots.start(start)
        held[slot] = (tokens, prompt_len, params)

        order = rng.permutation(sorted(held))[: int(rng.integers(1, len(held) + 1))]
        rows = slots.rows(order, np.ones(len(order), np.int64))
        logits = torch.randn(len(order), VOCAB, generator=generator) * 3
        found = logits.clone()
        made.apply(found, rows)
        for row, each in enumerate(order.tolist()):
            known, length, own = held[each]
            wanted = penalised(logits[row], known, length, own) if own.has_penalties else logits[row].double()
            torch.testing.assert_close(found[row].double(), wanted, atol=1e-5, rtol=1e-6)
        ids = torch.from_numpy(rng.integers(0, VOCAB, len(order)))
        made.count(ids, rows)
        for each, token in zip(order.tolist(), ids.tolist(), strict=True):
            held[each][0].append(token)


def test_without_penalties_nothing_is_kept() -> None:
    made = Penalties(VOCAB, torch.device("cpu"), reference.penalize)
    made.start(Start(0, SamplingParams(seed=0), frozenset(), 1, np.array([3], np.int32).tobytes()))
    assert made._seen.numel() == 0
