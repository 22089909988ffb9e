"""The file that QUANT_CONFIG names: how the vendor's Neural Compressor is told to measure or to quantise.

Fields and values are those of the Intel Gaudi documentation, "Run Inference Using FP8", "Supported JSON Config File
Options"; capitals do not matter. What is not implemented here is an error, never left out in silence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

VARIABLE = "QUANT_CONFIG"
_LOWER = "scale_method", "scale_format", "observer"
_UPPER = "mode", "fp8_config", "device_for_scales", "measure_exclude"


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Layers by parts of their names; by types there are linear layers alone."""

    names: tuple[str, ...] = ()
    types: tuple[Literal["Linear"], ...] = ()


class ScaleParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of the full range that the largest measured number is scaled to."""

    input_backoff: float = 0.25
    weight_backoff: float = 0.5


class QuantConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields that are read."""

    mode: Literal["MEASURE", "QUANTIZE"] = "QUANTIZE"
    observer: Literal["maxabs"] = "maxabs"
    dump_stats_path: str = "stats"
    scale_method: str = "maxabs_hw"
    scale_format: Literal["const", "scalar"] = "scalar"
    scale_params: ScaleParams = ScaleParams()
    allowlist: Names = Names()
    blocklist: Names = Names()
    dynamic_quantization: bool = False
    fp8_config: Literal["E4M3"] = "E4M3"
    measure_exclude: Literal["OUTPUT"] = "OUTPUT"
    device_for_scales: Literal["GAUDI2", "GAUDI3"] | None = None

    def excludes(self, layer: str) -> str | None:
        """Why the layer stays as it is, or None."""
        if any(name in layer for name in self.blocklist.names) or self.blocklist.types:
            return f"{VARIABLE}'s blocklist holds it"
        if self.allowlist.names and not any(name in layer for name in self.allowlist.names):
            return f"{VARIABLE}'s allowlist does not hold it"
        return None

    @property
    def measurements(self) -> Path:
        """Where the largest numbers are written and read, by the name that INC gives the file of one card."""
        return Path(f"{self.dump_stats_path}_hooks_maxabs.json")


def quant_config(environ: Mapping[str, str] = os.environ) -> QuantConfig | None:
    """What the user asked for, None: nothing. ValueError names the file and what is wrong with it."""
    path = environ.get(VARIABLE)
    return None if not path else read(Path(path))


def read(path: Path) -> QuantConfig:
    """The file's contents; ValueError names the file and what is wrong with it."""
    try:
        fields = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return msgspec.convert(_in_one_case(fields), QuantConfig)
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{VARIABLE}={path}: {error}") from error


def _in_one_case(fields: dict[str, Any]) -> dict[str, Any]:
    for names, change in ((_LOWER, str.lower), (_UPPER, str.upper)):
        fields |= {name: change(fields[name]) for name in names if isinstance(fields.get(name), str)}
    return fields
