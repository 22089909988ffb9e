"""Reading the `quantization_config` of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

Fields = TypeVar("Fields", bound=msgspec.Struct)


def read_fields(config: Mapping[str, Any], kind: type[Fields]) -> Fields:
    """The fields that `kind` declares; `null` counts as absent. ValueError names a field of a wrong type."""
    try:
        return msgspec.convert({name: value for name, value in config.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
