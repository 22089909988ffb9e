"""What every model is to the runner: what it is built from, what it is given each step, its three programs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import msgspec
import torch
from torch import Tensor, nn

from jackfield.config.lora_limits import LoraLimits
from jackfield.config.model_config import ModelConfig
from jackfield_platforms.attention import AttentionNeed, Rope
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.communicator import Communicator
from jackfield_platforms.linear import LinearOp, QuantMethod
from jackfield_platforms.ops import Ops

Hidden = dict[str, Tensor]


class Attend(Protocol):
    """Attention of one layer over the step's rows; q `[tokens, heads, dim]`, k and v `[tokens, kv_heads, dim]`.

    `layer` counts within `Model.attention_needs()`. q, k and v may be strided views; their last dimension is dense.
    What it returned is not read after the next call: where attention runs between captured pieces, both share memory.
    """

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None) -> Tensor: ...


class StepInputs(msgspec.Struct):
    """Passed to every layer; there is no ambient context."""

    tokens: Tensor  # [tokens] int64
    positions: Tensor  # [tokens] int64
    attend: Attend
    adapters: Tensor | None = None  # [tokens] int64, the LoRA slot of each, -1 none; None: nobody has an adapter


class Build(msgspec.Struct, frozen=True):
    """Everything that a model's layers choose from when they are built. Decide once, here, and keep the function."""

    config: ModelConfig
    dtype: torch.dtype
    kv_dtype: torch.dtype
    device: torch.device
    capabilities: Capabilities
    ops: Ops
    linear_ops: tuple[LinearOp, ...]  # best first, plain torch last
    comm: Communicator
    quant: Callable[[str], QuantMethod]  # by a layer's name in a checkpoint
    layers: range  # which decoder layers this rank holds
    lora: LoraLimits | None = None  # None: no adapters
    max_model_len: int | None = None  # positions that can occur; None: all that the config is made for

    @property
    def dtype_name(self) -> str:
        """`dtype` as a torch name: "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")


class Model(ABC, nn.Module):
    """Three programs, never one: embed, forward, logits. Made empty, by `Model(build)`; `jackfield.loader` fills it.

    The loader fills every `jackfield.layers.packable.Packable` among the modules; each knows its name in a checkpoint.
    """

    def __init__(self, build: Build) -> None:
        super().__init__()
        self.build = build

    @abstractmethod
    def attention_needs(self) -> tuple[AttentionNeed, ...]:
        """One a layer of `build.layers`, in order; layers with equal `kv` share a KV group."""

    @abstractmethod
    def embed(self, step: StepInputs) -> Hidden:
        """Token ids to hidden states."""

    @abstractmethod
    def forward(self, hidden: Hidden, step: StepInputs) -> Hidden:
        """All decoder layers and the final norm; `["hidden"]` of the result, `[tokens, hidden]`, is for `logits`."""

    @abstractmethod
    def logits(self, rows: Tensor) -> Tensor:
        """`[rows, hidden]` to `[rows, vocab]` in the model's dtype."""
