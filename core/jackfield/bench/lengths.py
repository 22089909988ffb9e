"""A seeded mix of prompt and answer lengths, shaped like chat traffic: many short, few long."""

from __future__ import annotations

import msgspec
import numpy as np

_SIGMA = 0.9  # of the logarithm, for both; published chat traces lie between 0.8 and 1.1


class LengthMix(msgspec.Struct, frozen=True):
    """(prompt tokens, tokens to generate) of each request, and the generator to draw their contents from."""

    lengths: list[tuple[int, int]]
    rng: np.random.Generator


def length_mix(count: int, input_len: int, output_len: int, *, longest: int, seed: int) -> LengthMix:
    """Lognormal lengths from 4 to `longest` whose means, after clipping, are close to the two that are wanted."""
    rng = np.random.default_rng(seed)
    inputs, outputs = (_lognormal(count, mean, longest, rng) for mean in (input_len, output_len))
    return LengthMix(list(zip(inputs, outputs, strict=True)), rng)


def _lognormal(count: int, mean: int, longest: int, rng: np.random.Generator) -> list[int]:
    shape = np.exp(_SIGMA * rng.standard_normal(count))
    scale = mean / shape.mean()
    for _ in range(50):  # clipping takes from the mean: scale up until it is back
        lengths = np.clip(shape * scale, 4, longest)
        scale *= mean / lengths.mean()
    return [int(length) for length in lengths.round()]
