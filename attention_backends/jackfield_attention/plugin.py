"""Shared backends for platforms that bring none of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_attention.paged import PagedTorchAttention
from jackfield_platforms.attention import AttentionBackend
from jackfield_platforms.hooks import hookimpl

_BACKENDS: dict[str, tuple[type[AttentionBackend[Any]], ...]] = {
    "emulated": (PagedTorchAttention, FlatBlockAttention),
    "strict": (FlatBlockAttention,),
    "strict-compiled": (FlatBlockAttention,),
}


@hookimpl
def attention_backends(platform: str) -> Sequence[type[AttentionBackend[Any]]]:
    """What serves the SDK's emulated devices, which cannot depend on this distribution themselves."""
    return _BACKENDS.get(platform, ())
