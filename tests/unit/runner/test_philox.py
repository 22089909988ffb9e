"""Philox against the vectors that its authors publish with Random123."""

from __future__ import annotations

import numpy as np
import pytest

from jackfield.runner.philox import philox4x32, round_keys, seed_keys, uniforms


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0xFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_published_vectors(fill: int, expected: tuple[int, ...]) -> None:
    out = philox4x32(np.full((4, 1), fill, np.uint64), round_keys(np.full((2, 1), fill, np.uint64)))
    assert tuple(out[:, 0].tolist()) == expected


def test_uniforms_depend_on_seed_and_position_alone() -> None:
    seeds = np.array([3, 2**63 + 1, 3, 9], np.uint64)
    positions = np.array([5, 5, 6, 2**33])
    together = uniforms(seed_keys(seeds), positions)
    alone = [uniforms(seed_keys(seeds[i : i + 1]), positions[i : i + 1])[0] for i in range(4)]
    assert together.tolist() == alone
    assert len(set(alone)) == 4


def test_uniforms_are_uniform() -> None:
    numbers = uniforms(seed_keys(np.full(200_000, 11, np.uint64)), np.arange(200_000))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=64, range=(0, 1))
    chi_square = ((counts - 3125.0) ** 2 / 3125.0).sum()
    assert chi_square < 124  # 63 degrees of freedom: 1e-5 beyond
