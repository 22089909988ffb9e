"""Uniform numbers for the sequences in slots, made for several positions at once: a step then only looks them up."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from jackfield.runner.philox import seed_keys, uniforms

Array = npt.NDArray[Any]
_AHEAD = 32  # positions made at once: philox costs about 100 us a call, and a little more for many numbers


class SlotUniforms:
    """`philox.uniforms` of each slot's seed: seed and position alone decide, never the steps before."""

    def __init__(self, num_slots: int) -> None:
        self._keys = np.zeros((10, 2, num_slots), np.uint64)
        self._first = np.full(num_slots, -_AHEAD, np.int64)  # the position of each slot's first number that is made
        self._made = np.zeros((num_slots, _AHEAD), np.float32)

    def start(self, slot: int, seed: int) -> None:
        """A sequence with this seed takes the slot."""
        self._keys[:, :, slot] = seed_keys(np.array([seed % 2**64], np.uint64))[:, :, 0]
        self._first[slot] = -_AHEAD

    def at(self, slots: Array, positions: Array) -> Array:
        """The numbers `[rows]` of the slots at the positions. If one is missing, all of the rows' are made anew.

        A slot may occur several times in a row, with growing positions less than 32 apart.
        """
        offsets = positions - self._first[slots]
        if ((offsets < 0) | (offsets >= _AHEAD)).any():
            self._make(slots, positions)
            offsets = positions - self._first[slots]
        return self._made[slots, offsets]

    def _make(self, slots: Array, positions: Array) -> None:
        slots, first = np.unique(slots, return_index=True)
        positions = positions[first]
        ahead = (positions[:, None] + np.arange(_AHEAD)).ravel()
        keys = np.repeat(self._keys[:, :, slots], _AHEAD, axis=2)
        self._made[slots] = uniforms(keys, ahead).reshape(-1, _AHEAD)
        self._first[slots] = positions
