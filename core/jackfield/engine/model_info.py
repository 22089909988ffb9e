"""What the frontend must know of the model that the engine runs."""

from __future__ import annotations

from typing import Any

import msgspec


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a served model; they cross from the engine's process to the frontend's."""

    name: str
    max_model_len: int
    vocab_size: int  # rows of the output head; the tokenizer may know fewer
    eos_token_ids: frozenset[int]
    tokenizer: str  # a folder
    serves_lora: bool = False  # whether requests may name adapters
    default_sampling: dict[str, Any] = {}  # from the model's generation config, under the names of SamplingParams
