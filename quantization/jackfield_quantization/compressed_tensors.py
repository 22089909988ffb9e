"""compressed-tensors checkpoints, as llm-compressor writes them: one config, several ways of storing a weight."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from torch import Tensor

from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.linear import Encoded, Encoding, LinearSpec, ParamSpec, QuantMethod
from jackfield_quantization.config_fields import read_fields
from jackfield_quantization.fp8 import BlockFp8
from jackfield_quantization.packed_ints import PackedInts
from jackfield_quantization.row_scaled import RowScaled

_PACKED, _INTS, _FLOATS, _NAIVE = "pack-quantized", "int-quantized", "float-quantized", "naive-quantized"
_PATTERN = "re:"  # what follows is a regular expression, which a name must begin with


class _Weights(msgspec.Struct, frozen=True):
    num_bits: int = 8
    type: str = "int"
    symmetric: bool = True
    strategy: str | None = None
    group_size: int | None = None
    block_structure: tuple[int, int] | None = None
    actorder: str | bool | None = None
    dynamic: bool | str = False


class _Scheme(msgspec.Struct, frozen=True):
    targets: tuple[str, ...] = ()
    weights: _Weights | None = None
    output_activations: dict[str, Any] | None = None
    format: str | None = None


class _Fields(msgspec.Struct, frozen=True):
    config_groups: dict[str, _Scheme]
    format: str = ""
    ignore: tuple[str, ...] = ()
    quantization_status: str = "compressed"
    kv_cache_scheme: dict[str, Any] | None = None
    sparsity_config: dict[str, Any] = {}
    transform_config: dict[str, Any] = {}


@dataclass(frozen=True)
class CompressedTensors(QuantMethod):
    """Layers that `targets` names and `ignored` does not are in the format `stored`. The embedding never is."""

    stored: QuantMethod
    targets: tuple[str, ...] = ("Linear",)
    ignored: tuple[str, ...] = ()

    name: ClassVar[str] = "compressed-tensors"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> QuantMethod:
        fields = read_fields(config, _Fields)
        if len(fields.config_groups) != 1:
            raise ValueError(f"config_groups has {len(fields.config_groups)} groups; supported: one")
        ((name, scheme),) = fields.config_groups.items()
        _check(fields, scheme, f"config_groups.{name}")
        assert scheme.weights is not None, "checked"
        stored = _stored(scheme.format or fields.format, scheme.weights, f"config_groups.{name}.weights")
        return cls(stored, scheme.targets, fields.ignore)

    def rejects(self, layer: LinearSpec, caps: Capabilities) -> str | None:
        return self.stored.rejects(layer, caps)

    def params(self, layer: LinearSpec) -> Mapping[str, ParamSpec]:
        return self.stored.params(layer)

    def encoding(self, layer: LinearSpec) -> Encoding:
        return self.stored.encoding(layer)

    def encode(self, params: dict[str, Tensor], layer: LinearSpec) -> Encoded:
        return self.stored.encode(params, layer)

    def covers(self, name: str) -> bool:
        if name.rpartition(".")[2] == "embed_tokens" or _is_meant(name, self.ignored):
            return False
        return "Linear" in self.targets or _is_meant(name, self.targets)


def _is_meant(name: str, entries: tuple[str, ...]) -> bool:
    return any(
        re.match(entry.removeprefix(_PATTERN), name) is not None if entry.startswith(_PATTERN) else entry == name
        for entry in entries
    )


def _check(fields: _Fields, scheme: _Scheme, group: str) -> None:
    for entry in (entry for entry in (*fields.ignore, *scheme.targets) if entry.startswith(_PATTERN)):
        try:
            re.compile(entry.removeprefix(_PATTERN))
        except re.error as error:
            raise ValueError(f"{entry!r} is no regular expression: {error}") from None
    if scheme.weights is None or scheme.weights.dynamic:
        raise ValueError(f"{group}.weights are not quantised in the checkpoint; load it without quantization_config")
    if fields.quantization_status != "compressed":
        raise ValueError(f"quantization_status is {fields.quantization_status!r}; supported: compressed")
    odd = {
        f"{group}.output_activations": scheme.output_activations,
        "kv_cache_scheme": fields.kv_cache_scheme,
        "transform_config": fields.transform_config,
    }
    for field, value in odd.items():
        if value:
            raise ValueError(f"{field} is set, which is not supported")
    if fields.sparsity_config.get("format", "dense") != "dense":
        raise ValueError(f"sparsity_config.format is {fields.sparsity_config['format']!r}; supported: dense")


def _stored(format: str, weights: _Weights, field: str) -> QuantMethod:
    """The way of storing that a config means; ValueError names what is not served."""
    kind, strategy = (weights.type.lower(), weights.num_bits), _strategy(weights)
    if format == _PACKED and kind in {("int", 4), ("int", 8)} and strategy in ("group", "channel"):
        return _packed(weights, strategy, field)
    if weights.symmetric and strategy in ("channel", "tensor"):
        if kind == ("float", 8) and format in (_FLOATS, _NAIVE):
            return RowScaled("float8_e4m3fn", by_rows=strategy == "channel")
        if kind == ("int", 8) and format in (_INTS, _NAIVE):
            return RowScaled("int8", by_rows=strategy == "channel")
    if kind == ("float", 8) and format in (_FLOATS, _NAIVE) and strategy == "block" and weights.block_structure:
        return BlockFp8(*weights.block_structure, scales="weight_scale")
    raise ValueError(
        f"{field} are {weights.num_bits}-bit {weights.type} by {strategy}, "
        f"{'' if weights.symmetric else 'not '}symmetric, in the format {format!r}; supported: {_PACKED} (4- and 8-bit "
        f"int by group or channel), {_INTS} (symmetric 8-bit int by channel or tensor), {_FLOATS} (8-bit float by "
        "channel, tensor or block)"
    )


def _strategy(weights: _Weights) -> str:
    if weights.strategy is not None:
        return weights.strategy.lower()
    if weights.group_size is None:
        return "tensor"
    return "channel" if weights.group_size == -1 else "group"


def _packed(weights: _Weights, strategy: str, field: str) -> QuantMethod:
    if strategy == "group" and (weights.group_size is None or weights.group_size < 1):
        raise ValueError(f"{field}.group_size is {weights.group_size}; wanted a positive number")
    return PackedInts(
        bits=weights.num_bits,
        group=weights.group_size if strategy == "group" else None,
        has_zero=not weights.symmetric,
        has_order=weights.actorder is True or weights.actorder in ("group", "dynamic"),
    )
