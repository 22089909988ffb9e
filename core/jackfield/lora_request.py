"""Which LoRA adapter a request wants."""

from __future__ import annotations

import msgspec


class LoRARequest(msgspec.Struct, frozen=True):
    """An adapter by name, number and folder; names as vLLM has them.

    The number stands for the adapter in slots and in the prefix cache: two folders must not share one. The folder holds
    `adapter_config.json` and `adapter_model.safetensors`, as PEFT writes them. ValueError for a number below 1.
    """

    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        if self.lora_int_id < 1:
            raise ValueError(f"lora_int_id must be at least 1; got {self.lora_int_id} for {self.lora_name!r}")
