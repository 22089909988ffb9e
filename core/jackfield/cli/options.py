"""Command-line options made from the fields of a struct, so that names, types and defaults are written once."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click
import msgspec

Struct = TypeVar("Struct", bound=msgspec.Struct)

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class ByteSize(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of Click
    """A number of bytes: 1048576, 512M or 2G (powers of 1024)."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip().lower())
        if match is None:
            self.fail(f"wanted a number of bytes such as 1048576, 512M or 2G; got {value!r}", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


class JsonObject(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of Click
    """A JSON object, such as {"num": 1}."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            return msgspec.json.decode(value, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            self.fail(f'wanted a JSON object such as {{"num": 1}}; got {value!r} ({error})', param, ctx)


BYTES = ByteSize()
JSON = JsonObject()


class Help(msgspec.Struct, frozen=True):
    """What a field's type does not say: a sentence for `--help`, and where text becomes a value in a way of its own."""

    text: str
    kind: Any = None  # a click.ParamType
    envvar: str | None = None


def options_of(struct: type[msgspec.Struct], helps: Mapping[str, Help]) -> list[click.Parameter]:
    """An option for every field that `helps` explains, in the order of the fields."""
    hints = get_type_hints(struct)
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    return [_option(field, hints[name], helps[name]) for name, field in fields.items() if name in helps]


def take(struct: type[Struct], values: dict[str, Any]) -> Struct:
    """Build the struct from the parsed values that belong to it, and remove them from `values`."""
    return struct(**{name: values.pop(name) for name in struct.__struct_fields__ if name in values})


def _option(field: msgspec.structs.FieldInfo, hint: Any, help: Help) -> click.Option:
    spelled = field.name.replace("_", "-")
    default = None if field.default is msgspec.NODEFAULT else field.default
    more: dict[str, Any] = {"default": default, "help": help.text, "envvar": help.envvar}
    if get_origin(hint) is tuple:
        return click.Option([f"--{spelled}", field.name], type=str, multiple=True, **more)
    if hint is bool:
        return click.Option([f"--{spelled}/--no-{spelled}", field.name], show_default=True, **more)
    return click.Option([f"--{spelled}", field.name], type=help.kind or _kind(hint), show_default=True, **more)


def _kind(hint: Any) -> Any:
    """The Click type of a field: what is left of `X | None`, a choice for a `Literal`."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (one for one in get_args(hint) if one is not type(None))
    return click.Choice(get_args(hint)) if get_origin(hint) is Literal else hint
