"""Reading a JSON object field by field, with errors that name the file and the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")


class ConfigError(ValueError):
    """A model folder's configuration cannot be served. The message names the file, the field, and what was found."""


class JsonFields:
    """The fields of one JSON object. `null` counts as absent, as it does in the checkpoints' own tools."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self.values, self.where = values, where

    @classmethod
    def read(cls, path: Path) -> JsonFields:
        """The object in the file at `path`; ConfigError when it is not JSON, or not an object."""
        try:
            values = msgspec.json.decode(path.read_bytes())
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must hold a JSON object; found {type(values).__name__}")
        return cls(values, str(path))

    def __contains__(self, field: str) -> bool:
        return self.values.get(field) is not None

    @overload
    def get(self, field: str, kind: type[T]) -> T: ...
    @overload
    def get(self, field: str, kind: type[T], default: T) -> T: ...
    def get(self, field: str, kind: type[T], default: T | None = None) -> T:
        """The field as a `kind`; without a default its absence is an error."""
        value = self.values.get(field)
        if value is None:
            if default is None:
                raise self.error(field, f"is missing; wanted {_described(kind)}")
            return default
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            raise self.error(field, f"wanted {_described(kind)}, found {value!r}") from None

    def positive(self, field: str, default: int | None = None) -> int:
        """The field as an integer of at least 1."""
        value = self.get(field, int) if default is None else self.get(field, int, default)
        if value < 1:
            raise self.error(field, f"must be at least 1; found {value}")
        return value

    def inner(self, field: str) -> JsonFields:
        """The object in a field; an absent one is empty."""
        return JsonFields(dict(self.get(field, dict, {})), f"{self.where}: {field}")

    def error(self, field: str, problem: str) -> ConfigError:
        """An error about one field, to raise."""
        return ConfigError(f"{self.where}: field {field!r} {problem}")


def _described(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind)) if getattr(kind, "__args__", None) is None else str(kind)
