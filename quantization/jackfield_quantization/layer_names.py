"""Which layers a checkpoint leaves plain, by their names."""

from __future__ import annotations

from collections.abc import Iterable

_VOCABULARY = ("lm_head", "embed_tokens")


def is_vocabulary(name: str) -> bool:
    """Whether it is the embedding or the head."""
    return name.rpartition(".")[2] in _VOCABULARY


def is_named(name: str, entries: Iterable[str]) -> bool:
    """Whether an entry, `lm_head`, `mlp.gate` or `model.layers.0`, is a run of whole words of the dotted name."""
    return any(f".{entry}." in f".{name}." for entry in entries)
