"""Shared backends for platforms that bring none of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.hooks import hookimpl

_EMULATED = ("strict", "strict-compiled")


@hookimpl
def attention_backends(platform: str) -> Sequence[type[AttentionBackend[Any]]]:
    """The static-shape form for the SDK's emulated devices, which cannot depend on this distribution themselves."""
    return (FlatBlockAttention,) if platform in _EMULATED else ()
