"""Presence, frequency and repetition penalties, over counts that live on the device and grow with each sampled
token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jackfield.sampling_params import SamplingParams


class _Counts:
    """What one slot has seen: which ids its prompt held, and how often each was generated."""

    def __init__(self, start_tokens: Tensor, prompt_len: int, vocab: int, device: torch.device) -> None:
        seen = torch.bincount(start_tokens[:prompt_len], minlength=vocab) > 0
        self.in_prompt = seen.to(device)
        self.generated = torch.bincount(start_tokens[prompt_len:], minlength=vocab).to(device)  # [vocab] int64


class Penalties:
    """Counts by slot; slots whose parameters have no penalties cost nothing."""

    def __init__(self, vocab: int, device: torch.device) -> None:
        self._vocab, self._device = vocab, device
        self._counts: dict[int, _Counts] = {}

    def start(self, slot: int, sampling: SamplingParams, tokens: bytes, prompt_len: int) -> None:
        """A sequence takes the slot with `tokens` (int32) known so far."""
        self._counts.pop(slot, None)
        if sampling.has_penalties:
            ids = torch.from_numpy(np.frombuffer(tokens, np.int32).astype(np.int64))
            self._counts[slot] = _Counts(ids, prompt_len, self._vocab, self._device)

    def apply(self, logits: Tensor, rows: Sequence[tuple[int, int, SamplingParams]]) -> None:
        """Change `logits` (float32 `[rows, vocab]`) in place for each (row, slot, parameters).

        Presence and frequency look at generated tokens alone, as OpenAI's do; repetition looks at the prompt too and
        divides positive logits, multiplies negative ones (Keskar et al., 2019).
        """
        for row, slot, sampling in rows:
            counts, line = self._counts[slot], logits[row]
            generated = counts.generated > 0
            if sampling.repetition_penalty != 1:
                factor = sampling.repetition_penalty
                repeated = torch.where(line > 0, line / factor, line * factor)
                line.copy_(torch.where(generated | counts.in_prompt, repeated, line))
            line -= sampling.frequency_penalty * counts.generated + sampling.presence_penalty * generated

    def count(self, ids: Tensor, rows: Sequence[tuple[int, int, SamplingParams]]) -> None:
        """Add the sampled `ids` `[rows]` to the counts of the slots, on the device."""
        for row, slot, _ in rows:
            self._counts[slot].generated.index_add_(0, ids[row : row + 1], torch.ones_like(ids[row : row + 1]))
