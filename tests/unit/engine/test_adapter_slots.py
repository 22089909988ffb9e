"""A slot is an adapter's while anybody uses it; then it stays until another adapter needs it."""

from __future__ import annotations

from jackfield.engine.adapter_slots import AdapterSlots
from jackfield.lora_request import LoRARequest

ONE, TWO, THREE = (LoRARequest(name, id, name) for id, name in enumerate("abc", start=1))


def test_sequences_without_an_adapter_need_no_slot():
    slots = AdapterSlots(0)
    assert slots.has_room(None)
    assert slots.take(None) == -1
    slots.give(None)
    assert not slots.has_room(ONE)


def test_all_users_of_an_adapter_share_its_slot():
    slots = AdapterSlots(1)
    assert slots.take(ONE) == slots.take(ONE) == 0
    assert not slots.has_room(TWO)
    slots.give(ONE)
    assert not slots.has_room(TWO), "one still runs"
    slots.give(ONE)
    assert slots.has_room(TWO)


def test_an_idle_adapter_keeps_its_slot_and_the_one_idle_longest_loses_it():
    slots = AdapterSlots(2)
    one, two = slots.take(ONE), slots.take(TWO)
    slots.give(TWO)
    slots.give(ONE)
    assert slots.take(TWO) == two
    slots.give(TWO)
    assert slots.take(THREE) == one
    assert slots.take(TWO) == two
