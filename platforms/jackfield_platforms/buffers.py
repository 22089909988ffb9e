"""Finding every tensor in what a program is given, whatever structs, dataclasses and containers it lies in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import msgspec
from torch import Tensor

from jackfield_platforms.attention import AttentionBackend

_SCALARS = (bool, int, float, str, type(None))


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Tensors and plain values, each with the path that leads to it; backends and what can be called are left out."""
    return _leaves(value, path, frozenset())


def _leaves(value: Any, path: str, above: frozenset[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Tensor, *_SCALARS)):
        yield path, value
    elif id(value) not in above:  # an object may lead back to itself
        for name, part in parts(value) or _attributes(value):
            yield from _leaves(part, f"{path}{name}", above | {id(value)})


def parts(value: Any) -> list[tuple[str, Any]]:
    """What a container, a struct or a dataclass holds, each with how to reach it; nothing for anything else."""
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, msgspec.Struct):
        return [(f".{name}", getattr(value, name)) for name in value.__struct_fields__]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    return []


def _attributes(value: Any) -> list[tuple[str, Any]]:
    """What an object of an ordinary class holds: a vendor's plan need be no dataclass."""
    if callable(value) or isinstance(value, (AttentionBackend, ModuleType)):
        return []
    slots = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())]
    found = [*getattr(value, "__dict__", {}), *(name for name in slots if hasattr(value, name))]
    return [(f".{name}", getattr(value, name)) for name in found]


def tensors(value: Any, path: str = "buffers") -> dict[str, Tensor]:
    """Only the tensors, by path."""
    return {where: leaf for where, leaf in leaves(value, path) if isinstance(leaf, Tensor)}
