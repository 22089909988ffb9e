"""Whole decoder layers in one call: what a platform is told of a layer, what it is given, what it gives back.

`Platform.fuse(spec)` answers from data alone, before a weight is there: a reason why not, or a function that takes the
layer's packed weights and returns the layer. Attention stays with the core: a fused layer calls `attend`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from torch import Tensor

from jackfield_platforms.attention import Rope
from jackfield_platforms.communicator import Communicator
from jackfield_platforms.linear import Encoding, LinearOp, LinearSpec, Packed


class FusedLinear(msgspec.Struct, frozen=True):
    """One of the layer's products: its sizes, how its weight is written, the name of the `LinearOp` that packs it."""

    layer: LinearSpec
    encoding: Encoding
    op: str


class DecoderSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A pre-norm decoder layer, as data.

    x = input norm of (residual + partial); q, k, v = parts of qkv(x), heads of q and k normed if `qk_norm`; partial =
    o(attention); x = post-attention norm of (residual + partial); partial = down(activation(gate) * up).
    """

    layer: int  # what `attend` is told
    dtype: str  # of activations
    hidden_size: int
    inner_size: int  # of gate, and of up
    query_heads: int
    kv_heads: int
    head_dim: int
    eps: float
    activation: str  # "silu"
    qk_norm: bool
    attention_bias: bool
    mlp_bias: bool
    qkv: FusedLinear
    out: FusedLinear
    gate_up: FusedLinear
    down: FusedLinear


class PackedLinear(msgspec.Struct, frozen=True, eq=False):
    """A packed weight, bias included, and the op that packed it."""

    op: LinearOp
    packed: Packed


class DecoderWeights(msgspec.Struct, frozen=True, eq=False):
    """What a layer holds once it is loaded. Norms are `[hidden]`, those of heads `[head_dim]`."""

    input_norm: Tensor
    post_attention_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    qkv: PackedLinear
    out: PackedLinear
    gate_up: PackedLinear
    down: PackedLinear
    comm: Communicator  # `partial` is summed over its ranks


class AttendFn(Protocol):
    """q `[tokens, query_heads, head_dim]`, k and v `[tokens, kv_heads, head_dim]`, not rotated yet; as q."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rope: Rope | None) -> Tensor: ...


class LayerFn(Protocol):
    """The layer: `[tokens, hidden]` both in and out. `partial` is not added to `residual` yet; None: there is none."""

    def __call__(
        self, partial: Tensor | None, residual: Tensor, attend: AttendFn, rope: Rope | None
    ) -> tuple[Tensor, Tensor]: ...


Fuse = Callable[[DecoderWeights], LayerFn]
