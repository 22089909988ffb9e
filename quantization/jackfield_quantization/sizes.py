"""Why the sizes of a layer do not go with a format."""

from __future__ import annotations

from jackfield_platforms.linear import LinearSpec


def group_refusal(layer: LinearSpec, group: int | None) -> str | None:
    """A reason where inputs do not fill groups of `group`; None, also where a whole row is one."""
    if group is not None and layer.in_size % group:
        return f"in_size {layer.in_size} is no multiple of the group of {group}"
    return None


def in_word_refusal(layer: LinearSpec, per_word: int) -> str | None:
    """A reason where inputs do not fill words of `per_word` numbers."""
    if layer.in_size % per_word:
        return f"in_size {layer.in_size} is no multiple of the {per_word} numbers in a word"
    return None


def out_word_refusal(layer: LinearSpec, per_word: int, what: str) -> str | None:
    """A reason where the outputs of a part do not fill words; `what` they hold."""
    odd = [size for size in layer.out_sizes if size % per_word]
    return f"output size {odd[0]} is no multiple of the {per_word} {what} in a word" if odd else None
