"""What a user may say about an engine. `resolve` turns it, with the model and the platform, into an `EngineConfig`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `LLM`, `AsyncLLM` and the command line, spelled as vLLM spells them where the same thing exists.

    None and "auto" leave the choice to the model, the platform and the memory that is there.
    """

    model: str | None = None  # a folder, or None: the embedded model
    tokenizer: str | None = None  # a folder; None: the model's own
    platform: str | None = None
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    quantization: str | None = None  # a weight format; None: the checkpoint's own
    tensor_parallel_size: int = 1  # ranks among which the model is split, a process each
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    block_size: int | None = None
    kv_cache_memory: int | None = None  # bytes; None: `memory_utilization` of what the platform reports as free
    memory_utilization: float | None = None
    enable_prefix_caching: bool = True
    enable_lora: bool = False
    max_loras: int = 1  # adapters in use at once
    max_lora_rank: int = 16
    load_format: Literal["auto", "safetensors", "dummy"] = "auto"
    overlap: Literal["auto", "on", "off"] = "auto"  # auto: on where the platform runs asynchronously, off with drafts
    speculative_config: dict[str, Any] | None = None  # who drafts, see `SpeculativeConfig`; None: nobody
    buckets: str | None = None  # a JSON file of planned sizes; None: the platform's plan
    forbid_compile: bool = False  # a step that no planned bucket holds is an error instead of a late capture
    record_steps: str | None = None  # a file to write the sizes of every step to, for `jackfield buckets`
    target_step_seconds: float | None = None  # 0: no limit; None: 0.2 for a server, no limit offline
    seed: int = 0
