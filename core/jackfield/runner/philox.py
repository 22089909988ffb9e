"""Uniform numbers from (seed, position): Philox4x32-10 over numpy arrays (Salmon et al., SC 2011).

A sampled token depends on its sequence's seed and its place alone, so it survives batching, preemption, graphs and devices.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInts = npt.NDArray[np.uint64]
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


def philox4x32(counter: tuple[UInts, UInts, UInts, UInts], key: tuple[UInts, UInts]) -> tuple[UInts, UInts, UInts, UInts]:
    """Ten rounds; every array holds 32-bit words in uint64, one entry an independent block."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (right >> _WORD) ^ c1 ^ k0, right & _LOW, (left >> _WORD) ^ c3 ^ k1, left & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & _LOW, (k1 + _KEY_STEPS[1]) & _LOW
    return c0, c1, c2, c3


def uniforms(seeds: UInts, positions: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """One number in [0, 1) for each (64-bit seed, token position), in steps of 2^-24."""
    places = positions.astype(np.uint64)
    zeros = np.zeros_like(places)
    words = philox4x32((places & _LOW, places >> _WORD, zeros, zeros), (seeds & _LOW, seeds >> _WORD))
    return ((words[0] >> np.uint64(8)).astype(np.float32)) * np.float32(2.0**-24)
