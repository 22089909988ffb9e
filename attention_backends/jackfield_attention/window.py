"""Which keys a sliding window leaves in sight."""

from __future__ import annotations

from jackfield_platforms.kv import KVSpec, Windowed


def window_of(spec: KVSpec) -> int | None:
    """Tokens that a query sees, itself included; None: all before it."""
    return spec.window if isinstance(spec, Windowed) else None


def first_key(query_position: int, window: int | None) -> int:
    """Position of the oldest key that a query at `query_position` sees."""
    return 0 if window is None else max(0, query_position - window + 1)
