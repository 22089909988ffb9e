"""Numbers that are made ahead are those that would be made one by one."""

from __future__ import annotations

import numpy as np

from jackfield.runner.philox import seed_keys, uniforms
from jackfield.runner.slot_uniforms import SlotUniforms


def alone(seed: int, position: int) -> float:
    return float(uniforms(seed_keys(np.array([seed % 2**64], np.uint64)), np.array([position]))[0])


def test_numbers_depend_on_seed_and_position_whatever_was_asked_before() -> None:
    rng = np.random.default_rng(3)
    slots = SlotUniforms(8)
    seeds = {slot: int(rng.integers(-(2**62), 2**62)) for slot in range(8)}
    positions = {slot: int(rng.integers(0, 5_000)) for slot in range(8)}
    for slot, seed in seeds.items():
        slots.start(slot, seed)
    for step in range(200):
        if step % 37 == 36:  # a slot changes hands, perhaps with positions that its predecessor had
            seeds[step % 8] = step
            slots.start(step % 8, step)
        rows = rng.permutation(8)[: rng.integers(1, 9)]
        found = slots.at(rows, np.array([positions[slot] for slot in rows]))
        assert found.tolist() == [alone(seeds[slot], positions[slot]) for slot in rows]
        for slot in rows:
            positions[slot] += int(rng.choice([1, 1, 1, 40, -3])) if positions[slot] > 3 else 1
