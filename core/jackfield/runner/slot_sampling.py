"""Sampling parameters by slot in persistent host arrays, so that a step gathers them with a few vectorised reads."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from jackfield.engine.step import Start
from jackfield.runner.logit_edits import LogitEdits
from jackfield.runner.slot_uniforms import SlotUniforms

Array = npt.NDArray[Any]


class RandomRows(msgspec.Struct, frozen=True):
    """The rows of a step that are not greedy; every array has one entry for each."""

    rows: Array  # int64: places among the sampling rows
    temperature: Array  # float32
    top_k: Array  # int64; the vocabulary's size when off
    top_p: Array  # float32
    min_p: Array  # float32
    uniforms: Array  # float32 in [0, 1)
    filtered: bool  # whether any row uses top-k or top-p


class SamplingRows(msgspec.Struct, frozen=True):
    """What the sampler needs to know of a step's sampling rows."""

    slots: Array  # int64
    num_generated: Array  # int64: tokens that each row's sequence had generated before this one
    random: RandomRows | None
    edited: Array  # int64: rows with logit edits
    penalised: Array  # int64: rows with penalties
    with_logprobs: Array  # int64: rows that want logprobs
    num_logprobs: Array  # int64: how many alternatives each of those wants


class SlotSampling:
    """One entry a slot, written when a sequence starts and read every step."""

    def __init__(self, num_slots: int, vocab: int) -> None:
        self._vocab = vocab
        self._temperature = np.zeros(num_slots, np.float32)
        self._top_k = np.full(num_slots, vocab, np.int64)
        self._top_p = np.ones(num_slots, np.float32)
        self._min_p = np.zeros(num_slots, np.float32)
        self._uniforms = SlotUniforms(num_slots)
        self._prompt_len = np.zeros(num_slots, np.int64)
        self._num_logprobs = np.full(num_slots, -1, np.int64)
        self._edited = np.zeros(num_slots, bool)
        self._penalised = np.zeros(num_slots, bool)

    def start(self, start: Start) -> None:
        """Remember a sequence's parameters."""
        slot, sampling = start.slot, start.sampling
        if sampling.seed is None:
            raise ValueError("sampling.seed must be resolved before a sequence starts")
        self._temperature[slot] = sampling.temperature
        self._top_k[slot] = min(sampling.top_k, self._vocab) if sampling.top_k > 0 else self._vocab
        self._top_p[slot] = sampling.top_p
        self._min_p[slot] = sampling.min_p
        self._uniforms.start(slot, sampling.seed)
        self._prompt_len[slot] = start.prompt_len
        self._num_logprobs[slot] = -1 if sampling.logprobs is None else sampling.logprobs
        self._edited[slot] = LogitEdits.wanted(sampling, start.stop_token_ids)
        self._penalised[slot] = sampling.has_penalties

    def rows(self, slots: Array, positions: Array) -> SamplingRows:
        """Parameters of the sampling rows; `positions` are the places of the tokens to be sampled in their
        sequences.
        """
        num_logprobs = self._num_logprobs[slots]
        asked = np.flatnonzero(num_logprobs >= 0)
        return SamplingRows(
            slots=slots,
            num_generated=positions - self._prompt_len[slots],
            random=self._random(slots, positions),
            edited=np.flatnonzero(self._edited[slots]),
            penalised=np.flatnonzero(self._penalised[slots]),
            with_logprobs=asked,
            num_logprobs=num_logprobs[asked],
        )

    def _random(self, slots: Array, positions: Array) -> RandomRows | None:
        rows = np.flatnonzero(self._temperature[slots] > 0)
        if not rows.size:
            return None
        slots = slots[rows]
        top_k, top_p = self._top_k[slots], self._top_p[slots]
        return RandomRows(
            rows=rows,
            temperature=self._temperature[slots],
            top_k=top_k,
            top_p=top_p,
            min_p=self._min_p[slots],
            uniforms=self._uniforms.at(slots, positions[rows]),
            filtered=bool((top_k < self._vocab).any() or (top_p < 1).any()),
        )
