"""What a user may say about the server; what concerns the engine is in `EngineOptions`."""

from __future__ import annotations

import msgspec


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `jackfield serve` beside the engine's."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free one
    served_model_name: str | None = None  # None: the model's own
    lora_modules: tuple[str, ...] = ()  # "name=folder" of each adapter that requests may name as their model
    api_key: str | None = None  # None: everybody may ask
    max_waiting: int = 1024  # sequences without a first token; more are answered with 429
    drain_seconds: float = 30.0  # how long running requests may take after SIGTERM
    max_body_bytes: int = 32 << 20
