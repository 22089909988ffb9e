"""Finding every tensor in what a program is given, whatever structs, dataclasses and containers it lies in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from torch import Tensor

_SCALARS = (bool, int, float, str, type(None))


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Tensors and plain values, each with the path that leads to it; other objects are passed over."""
    if isinstance(value, (Tensor, *_SCALARS)):
        yield path, value
        return
    for name, part in parts(value):
        yield from leaves(part, f"{path}{name}")


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


def tensors(value: Any, path: str = "buffers") -> dict[str, Tensor]:
    """Only the tensors, by path."""
    return {where: leaf for where, leaf in leaves(value, path) if isinstance(leaf, Tensor)}
