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


def test_a_slot_may_be_asked_for_several_positions_at_once() -> None:
    rng = np.random.default_rng(5)
    slots = SlotUniforms(4)
    for slot in range(4):
        slots.start(slot, 100 + slot)
    first = rng.integers(0, 50, 4)
    for _ in range(100):
        counts = rng.integers(1, 18, 4)
        rows = np.repeat([2, 0, 3, 1], counts)
        positions = np.concatenate([first[slot] + np.arange(n) for slot, n in zip([2, 0, 3, 1], counts, strict=True)])
        wanted = [alone(100 + slot, place) for slot, place in zip(rows.tolist(), positions.tolist(), strict=True)]
        assert slots.at(rows, positions).tolist() == wanted
        first += rng.integers(1, 12, 4)
