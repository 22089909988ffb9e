"""Uniform numbers from (seed, position): Philox4x32-10 over numpy arrays (Salmon et al., SC 2011).

A sampled token depends on its sequence's seed and its place alone, so it survives batching, preemption, graphs and
devices.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInts = npt.NDArray[np.uint64]
_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_KEY_STEPS = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
_ROUNDS = np.arange(10, dtype=np.uint64)[:, None, None]


def philox4x32(counter: UInts, keys: UInts) -> UInts:
    """Ten rounds over counters `[4, n]` of 32-bit words in uint64, with the round keys `[10, 2, n]` of `round_keys`."""
    multiplied, mixed = counter[0::2], counter[1::2]  # words 0 and 2, words 1 and 3
    for key in keys:
        product = multiplied * _MULTIPLIERS
        multiplied, mixed = (product >> _WORD)[::-1] ^ mixed ^ key, (product & _LOW)[::-1]
    return np.stack([multiplied[0], mixed[0], multiplied[1], mixed[1]])


def round_keys(key: UInts) -> UInts:
    """The keys `[10, 2, n]` of all rounds, from keys `[2, n]` of 32-bit words."""
    keys: UInts = (key + _ROUNDS * _KEY_STEPS) & _LOW
    return keys


def seed_keys(seeds: UInts) -> UInts:
    """The round keys `[10, 2, n]` of 64-bit seeds `[n]`."""
    return round_keys(np.stack([seeds & _LOW, seeds >> _WORD]))


def uniforms(keys: UInts, positions: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """One number in [0, 1), in steps of 2^-24, for each sequence's `seed_keys` and token position."""
    counter = np.zeros((4, len(positions)), np.uint64)
    counter[0] = positions
    counter[1] = counter[0] >> _WORD
    counter[0] &= _LOW
    numbers: npt.NDArray[np.float32] = (philox4x32(counter, keys)[0] >> np.uint64(8)).astype(np.float32)
    numbers *= np.float32(2.0**-24)
    return numbers
