"""The largest numbers that went into each layer, in a file of the form that INC writes.

`Nodes` holds, by layer, `inputs`: one table a layer input, here of one number, and `params`: one a weight
(neural-compressor, `fp8_quant/_core/save_measure`; its `inc_hooks_maxabs.json`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

MODE = "DynamicRange"


class Maxima(msgspec.Struct, frozen=True):
    """Of one layer."""

    input: float
    weight: float


def read(path: Path) -> Mapping[str, Maxima]:
    """By layer; ValueError names the file and what is wrong with it."""
    try:
        nodes = msgspec.json.decode(path.read_bytes(), type=_File).nodes
        return {name: Maxima(_largest(node.inputs), _largest(node.params["weight"])) for name, node in nodes.items()}
    except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path} holds no measurements: {error}; run in mode MEASURE first") from error


def write(path: Path, maxima: Mapping[str, Maxima]) -> None:
    """Make the file, and the folder where it lies."""
    nodes = {name: {"inputs": [[[one.input]]], "params": {"weight": [[one.weight]]}} for name, one in maxima.items()}
    told = {"GlobalRank": None, "LocalRank": None, "Mode": MODE, "Nodes": nodes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(told)))


class _Node(msgspec.Struct):
    inputs: Any
    params: dict[str, Any]


class _File(msgspec.Struct):
    nodes: dict[str, _Node] = msgspec.field(name="Nodes")


def _largest(table: Any) -> float:
    """Of a number, or of tables in tables."""
    if isinstance(table, list):
        return max(map(_largest, table))
    return float(table)
