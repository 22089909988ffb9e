"""LoRA adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jackfield.layers.linear import Linear
from jackfield.loader.checkpoint import LoadError, listed
from jackfield.lora_request import LoRARequest

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")


class Place(msgspec.Struct, frozen=True, eq=False):
    """Where the adapter of one projection goes: part `part` of a linear layer."""

    linear: Linear
    part: int

    @property
    def shapes(self) -> tuple[int, int]:
        """Inputs and outputs of the projection."""
        return self.linear.spec.in_size, self.linear.spec.out_sizes[self.part]


class AdapterPart(msgspec.Struct, frozen=True, eq=False):
    """What one projection gains: x to `x @ a.T @ b`."""

    place: Place
    a: Tensor  # [rank, in]
    b: Tensor  # [rank, out], scaled


class _Config(msgspec.Struct):
    """What is read of adapter_config.json; what would change the sum and is not served is refused."""

    r: int
    lora_alpha: float
    peft_type: str = "LORA"
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, Any] | None = None
    alpha_pattern: dict[str, Any] | None = None
    fan_in_fan_out: bool = False

    @property
    def scale(self) -> float:
        """alpha / r, or alpha / sqrt(r) for rank-stabilised adapters (Kalajdzievski, 2023)."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)

    def objections(self) -> list[str]:
        """Fields of kinds that are not served."""
        usual = {"peft_type": "LORA", "bias": "none"}
        flags = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
        odd = [name for name, value in usual.items() if getattr(self, name) != value]
        odd += [name for name in flags if getattr(self, name)]
        return [f"{name} = {getattr(self, name)!r}" for name in odd]


def adapter_places(linears: Iterable[Linear]) -> dict[str, Place]:
    """Every projection that an adapter may name, by its name in a checkpoint."""
    places = {}
    for linear in linears:
        parent = linear.name.rpartition(".")[0]
        for part, name in enumerate([f"{parent}.{one}" for one in linear.parts] or [linear.name]):
            places[name] = Place(linear, part)
    return places


def read_adapter(
    request: LoRARequest, places: Mapping[str, Place], max_rank: int, *, dtype: torch.dtype
) -> list[AdapterPart]:
    """The adapter on the host in `dtype`; LoadError says with names and numbers what does not fit or cannot be read."""
    try:
        folder = Path(request.lora_path).expanduser()
        config, pairs = _config(folder), _pairs(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of nobody
        raise LoadError(f"The adapter {request.lora_name!r} cannot be read from lora_path: {error}") from None
    if config.r > max_rank:
        raise LoadError(
            f"The adapter {request.lora_name!r} in {folder} has rank {config.r}; the slots of this engine hold rank "
            f"{max_rank}. Start it with --max-lora-rank {config.r}"
        )
    unknown = sorted(pairs.keys() - places.keys())
    problems = [f"no layer that an adapter may change: {listed(unknown)}"] if unknown else []
    for name, pair in pairs.items():
        if name in places:
            problems += _misfits(name, pair, places[name], config.r)
    if problems:
        raise LoadError(f"The adapter in {folder} does not fit the model:\n  " + "\n  ".join(problems))
    return [
        AdapterPart(places[name], pair["A"].to(dtype), (pair["B"].float() * config.scale).t().to(dtype))
        for name, pair in pairs.items()
    ]


def _config(folder: Path) -> _Config:
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise LoadError(f"Wanted a LoRA adapter as PEFT writes it in {folder}; there is no {' and no '.join(missing)}")
    try:
        config = msgspec.json.decode((folder / CONFIG).read_bytes(), type=_Config)
    except msgspec.DecodeError as error:
        raise LoadError(f"{folder / CONFIG} is no configuration of a LoRA adapter: {error}") from None
    if config.objections():
        raise LoadError(
            f"{folder / CONFIG}: {', '.join(config.objections())} is not served; merge the adapter into the model's "
            "weights and serve those"
        )
    if config.r < 1:
        raise LoadError(f"{folder / CONFIG}: r must be at least 1; found {config.r}")
    return config


def _pairs(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Tensors by projection and side, "A" and "B"; LoadError for a tensor that is neither."""
    try:
        stored = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise LoadError(f"{folder / WEIGHTS} is not a complete safetensors file: {error}") from None
    pairs: dict[str, dict[str, Tensor]] = {}
    strangers = []
    for name, tensor in stored.items():
        match = _NAME.fullmatch(name)
        if match is None:
            strangers.append(name)
        else:
            pairs.setdefault(match["layer"], {})[match["side"]] = tensor
    if strangers:
        raise LoadError(f"{folder / WEIGHTS} holds tensors that are no lora_A or lora_B: {listed(strangers)}")
    return pairs


def _misfits(name: str, pair: Mapping[str, Tensor], place: Place, rank: int) -> list[str]:
    inputs, outputs = place.shapes
    wanted = {"A": (rank, inputs), "B": (outputs, rank)}
    return [
        f"{name}.lora_{side}: wanted {list(shape)}, found {list(pair[side].shape) if side in pair else 'nothing'}"
        for side, shape in wanted.items()
        if side not in pair or tuple(pair[side].shape) != shape
    ]
