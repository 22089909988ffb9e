"""Presence, frequency and repetition penalties, over counts that live on the device and grow with each sampled
token.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jackfield.engine.step import Start
from jackfield.runner.slot_sampling import Array, SamplingRows
from jackfield_platforms.ops import PenalizeFn


class Penalties:
    """Counts of slots whose parameters have penalties; others cost nothing.

    `seen` is as the op `penalize` wants it. It has a line for each such sequence, and grows to twice its size when
    there are more of these than ever before.
    """

    def __init__(self, vocab: int, device: torch.device, penalize: PenalizeFn) -> None:
        self._vocab, self._device, self._penalize = vocab, device, penalize
        self._seen = torch.zeros(0, vocab, dtype=torch.int32, device=device)
        self._free: list[int] = []  # its lines
        self._places: dict[int, int] = {}  # each slot's line
        self._factors: dict[int, tuple[float, float, float]] = {}

    def start(self, start: Start) -> None:
        """A sequence takes a slot, with the tokens that are known so far."""
        slot, sampling = start.slot, start.sampling
        if slot in self._places:
            self._free.append(self._places.pop(slot))
        if not sampling.has_penalties:
            return
        if not self._free:
            self._grow()
        ids = torch.from_numpy(np.frombuffer(start.tokens, np.int32).astype(np.int64))
        prompt, generated = (
            torch.bincount(part, minlength=self._vocab) for part in (ids[: start.prompt_len], ids[start.prompt_len :])
        )
        place = self._places[slot] = self._free.pop()
        self._seen[place] = (2 * generated + (prompt > 0)).int().to(self._device)
        self._factors[slot] = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)

    def apply(self, logits: Tensor, rows: SamplingRows) -> None:
        """Change the rows of `logits` (float32 `[rows, vocab]`) that have penalties in place."""
        if not rows.penalised.size:
            return
        slots = rows.slots[rows.penalised].tolist()
        chosen, factors = self._put(rows.penalised), np.array([self._factors[slot] for slot in slots], np.float32)
        logits[chosen] = self._penalize(logits[chosen], self._seen, self._lines(slots), self._put(factors))

    def count(self, ids: Tensor, rows: SamplingRows) -> None:
        """Add the sampled `ids` `[rows]` to the counts, on the device."""
        if not rows.penalised.size:
            return
        lines = self._lines(rows.slots[rows.penalised].tolist())
        self._seen[lines, ids[self._put(rows.penalised)]] += 2  # a line is nobody else's

    def _lines(self, slots: list[int]) -> Tensor:
        return self._put(np.array([self._places[slot] for slot in slots], np.int64))

    def _grow(self) -> None:
        held = len(self._seen)
        more = max(1, held)
        self._seen = torch.cat((self._seen, self._seen.new_zeros(more, self._vocab)))
        self._free.extend(range(held, held + more))

    def _put(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)
