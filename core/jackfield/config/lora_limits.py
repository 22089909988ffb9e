"""How much room LoRA adapters get."""

from __future__ import annotations

import msgspec


class LoraLimits(msgspec.Struct, frozen=True):
    """Adapters that may be in use at once, and the rank that each slot holds."""

    max_loras: int
    max_rank: int
