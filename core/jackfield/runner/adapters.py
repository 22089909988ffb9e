"""LoRA adapters that are served: read to the host when a request names one, written into a slot when it starts."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from jackfield.engine.step import Start
from jackfield.layers.lora_slots import adapted
from jackfield.loader.adapter import AdapterPart, adapter_places, read_adapter
from jackfield.lora_request import LoRARequest
from jackfield.models.interface import Model


class Adapters:
    """Owns what lies in the slots of every layer. The scheduler decides which adapter takes which slot."""

    def __init__(self, model: Model, max_rows: int) -> None:
        assert model.build.lora is not None, "the engine serves LoRA"
        self._limits, self._dtype = model.build.lora, model.build.dtype
        self._linears = adapted(model)
        self._places = adapter_places(self._linears)
        self._read: OrderedDict[int, list[AdapterPart]] = OrderedDict()  # the latest, on the host
        self._paths: dict[int, str] = {}
        self._in_slot: list[int | None] = [None] * self._limits.max_loras
        self.of_slot = np.full(max_rows, -1, np.int64)  # the adapter's slot, by the sequence's

    def read(self, request: LoRARequest) -> None:
        """Make sure that the adapter can be served; ValueError says why not."""
        known = self._paths.get(request.lora_int_id, request.lora_path)
        if known != request.lora_path:
            raise ValueError(
                f"lora_int_id {request.lora_int_id} stands for the adapter in {known}; {request.lora_name!r} in "
                f"{request.lora_path} needs a number of its own"
            )
        self._parts(request)
        self._paths[request.lora_int_id] = request.lora_path

    def start(self, start: Start) -> None:
        """A sequence takes a slot: its adapter must lie in its own by the time that it is computed."""
        self.of_slot[start.slot] = start.adapter_slot
        if start.lora is not None and self._in_slot[start.adapter_slot] != start.lora.lora_int_id:
            parts = self._parts(start.lora)
            self._in_slot[start.adapter_slot] = None  # until all of it is there
            self._write(start.adapter_slot, parts)
            self._in_slot[start.adapter_slot] = start.lora.lora_int_id

    def _write(self, slot: int, parts: list[AdapterPart]) -> None:
        for linear in self._linears:
            assert linear.lora is not None, "every adapted layer has slots"
            linear.lora.clear(slot)
        for part in parts:
            slots = part.place.linear.lora
            assert slots is not None, "every adapted layer has slots"
            slots.write(slot, part.place.part, part.a, part.b)

    def _parts(self, request: LoRARequest) -> list[AdapterPart]:
        parts = self._read.pop(request.lora_int_id, None)
        if parts is None:
            parts = read_adapter(request, self._places, self._limits.max_rank, dtype=self._dtype)
        self._read[request.lora_int_id] = parts
        if len(self._read) > self._limits.max_loras:
            self._read.popitem(last=False)
        return parts
