"""Which weight format each layer gets: what the checkpoint's config says, or the option `quantization`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from jackfield.config.engine_config import EngineConfig
from jackfield.config.json_fields import ConfigError
from jackfield_platforms.linear import QuantMethod

# Of experts: small, and quantised checkpoints leave them plain
_ROUTER = re.compile(r".*\.(mlp|block_sparse_moe)\.gate")


def format_by_layer(config: EngineConfig, formats: Mapping[str, type[QuantMethod]]) -> Callable[[str], QuantMethod]:
    """The format of a layer by its name in the checkpoint; ConfigError when the one that is wanted cannot be had."""
    method, plain = _format(config, formats), formats["unquantized"]()
    return lambda name: method if method.covers(name) and not _ROUTER.fullmatch(name) else plain


def _format(config: EngineConfig, formats: Mapping[str, type[QuantMethod]]) -> QuantMethod:
    name, found = config.quantization, config.model.quantization
    field = f"{config.model_path / 'config.json'}: field 'quantization_config'"
    if found is None:
        return _on_line(name, formats)()
    if name not in formats:
        raise ConfigError(f"{field} asks for the weight format {name!r}; there are {', '.join(sorted(formats))}")
    try:
        return formats[name].from_config(found)
    except ValueError as error:
        raise ConfigError(f"{field} ({name}): {error}") from None


def _on_line(name: str, formats: Mapping[str, type[QuantMethod]]) -> type[QuantMethod]:
    on_line = sorted(known for known, method in formats.items() if method.on_line)
    if name in on_line:
        return formats[name]
    why = "needs a checkpoint in that format, and this one is plain" if name in formats else "is no weight format here"
    raise ConfigError(f"quantization={name!r} {why}; plain weights can be loaded as {', '.join(on_line)}")
