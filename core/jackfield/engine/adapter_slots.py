"""Which LoRA adapter has which slot on the device."""

from __future__ import annotations

from jackfield.lora_request import LoRARequest


class AdapterSlots:
    """A slot belongs to an adapter while any sequence uses it, and stays its own until another adapter needs it; the
    one that was idle longest goes first.
    """

    def __init__(self, num_slots: int) -> None:
        self._free = list(range(num_slots - 1, -1, -1))
        self._slots: dict[int, int] = {}  # by the adapter's number
        self._users: dict[int, int] = {}  # sequences that run, by the adapter's number
        self._idle: dict[int, None] = {}  # adapters that nobody uses, the one idle longest first

    def has_room(self, lora: LoRARequest | None) -> bool:
        """Whether a sequence with this adapter could run now."""
        return lora is None or lora.lora_int_id in self._slots or bool(self._free or self._idle)

    def take(self, lora: LoRARequest | None) -> int:
        """The slot of a sequence's adapter, -1 for none; only where there is room."""
        if lora is None:
            return -1
        id = lora.lora_int_id
        if id not in self._slots:
            self._slots[id] = self._free.pop() if self._free else self._evict()
        self._idle.pop(id, None)
        self._users[id] = self._users.get(id, 0) + 1
        return self._slots[id]

    def give(self, lora: LoRARequest | None) -> None:
        """A sequence with this adapter runs no longer."""
        if lora is None:
            return
        id = lora.lora_int_id
        self._users[id] -= 1
        if not self._users[id]:
            del self._users[id]
            self._idle[id] = None

    def _evict(self) -> int:
        oldest = next(iter(self._idle))
        del self._idle[oldest]
        return self._slots.pop(oldest)
