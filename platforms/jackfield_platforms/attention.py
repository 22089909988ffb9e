"""Paged attention: what a backend is asked for, what it is given each step, what it must do.

A backend is made once for each KV group. Once a step the runner calls `plan` on the host; once a layer it calls `run`
on the device. The cache is opaque to the core: only the backend knows its layout. What is made inside a traced program
is a dataclass, since torch.compile cannot construct msgspec's structs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield_platforms.bucket import Bucket, Phase
from jackfield_platforms.kv import KVSpec, Paged, Windowed, numbers_a_token
from jackfield_platforms.kv_tokens import KVTokens, read_tokens, write_tokens
from jackfield_platforms.ops import Ops
from jackfield_platforms.refusal import Refused

GRAPHS = ("any", "uniform", "none")
EXTRAS = {"alibi": "ALiBi slopes", "kv_scales": "scales of keys and values"}
"""What a need may ask for that backends do not serve unless they say so, by the need's field."""

Cache = Any  # whatever the backend allocated for one layer
Plan = TypeVar("Plan")


class AttentionNeed(msgspec.Struct, frozen=True):
    """What the layers of one KV group ask of a backend."""

    kv: KVSpec
    query_heads: int
    scale: float
    soft_cap: float | None = None  # scores become cap * tanh(scores / cap)
    sinks: bool = False  # a learnt logit a query head joins the softmax's denominator
    query_dtype: str = "float32"
    alibi: bool = False  # a key d tokens back loses d times its query head's slope, after the cap (Press et al., 2022)
    kv_scales: bool = False  # cached numbers times a scale a kv head are the keys and values


class Layout(msgspec.Struct):
    """One step as the host sees it: views of persistent int32 host buffers, decode rows first.

    Row r holds `num_new[r]` query tokens, from `query_start[r]` of the step's tokens on; they are the last ones of its
    `kv_len[r]` tokens (the step's own included). Token p of row r lives in block `block_table[r, p // block_size]` at
    `p % block_size`. Rows follow one another without a gap unless the bucket pads them to one length. Block 0 is the
    null block: padding rows (no new tokens, kv_len 0) and padding tokens write there and nobody reads it as a value.
    """

    num_rows: int  # real ones; the arrays may hold padding rows after them
    num_tokens: int  # real ones
    query_start: npt.NDArray[np.int32]  # [rows + 1]
    num_new: npt.NDArray[np.int32]  # [rows]
    kv_len: npt.NDArray[np.int32]  # [rows]
    block_table: npt.NDArray[np.int32]  # [rows, max_blocks]


@dataclass(frozen=True)
class LayerKV:
    """What is one layer's own: its cache, and what its softmax needs."""

    cache: Cache
    sinks: Tensor | None = None  # [query_heads]
    slopes: Tensor | None = None  # [query_heads] of ALiBi, not negative
    k_scale: Tensor | None = None  # float32 [kv_heads]; of latents [1], and no v_scale
    v_scale: Tensor | None = None  # float32 [kv_heads]


@dataclass(frozen=True)
class Rope:
    """Rotary embedding that `run` applies to q and k before it writes k.

    `table` holds cos then sin, `[max_positions, 2 * rotary_dim // 2]` float32; `positions` is `[tokens]`; halves are
    paired as in Llama's checkpoints (element i with i + rotary_dim / 2) unless `interleaved`.
    """

    table: Tensor
    positions: Tensor
    interleaved: bool = False


class AttentionBackend(ABC, Generic[Plan]):
    """Writes keys and values into paged blocks and attends to them."""

    # required
    name: ClassVar[str]
    block_sizes: ClassVar[Sequence[int]]  # what is supported, the preferred one first
    phases: ClassVar[frozenset[Phase]]  # kinds of step that one plan can hold

    @classmethod
    @abstractmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        """Why this backend cannot serve `need`, whose `kv` is one of `kinds`, or None. Who asks calls `objection`."""

    @abstractmethod
    def allocate(self, num_blocks: int) -> Cache:
        """The cache of one layer: `num_blocks` blocks, the null block (0) included. Contents are undefined."""

    @abstractmethod
    def blank(self, bucket: Bucket) -> Plan:
        """Device buffers of a plan, made once a bucket; shapes and non-tensor fields depend on the bucket alone."""

    @abstractmethod
    def plan(self, layout: Layout, bucket: Bucket, into: Plan) -> None:
        """Fill `into` for one step, on the host, without a wait for the device."""

    @abstractmethod
    def run(self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: Plan, rope: Rope | None = None) -> Tensor:
        """Rotate q and k if asked, write k and v, attend.

        q `[tokens, query_heads, k_dim]`, k `[tokens, kv_heads, k_dim]`, v `[tokens, kv_heads, v_dim]`; returns
        `[tokens, query_heads, v_dim]` in q's dtype. Rows at and past `num_tokens` may hold anything and so may their
        output. Of a `Latent` layer v is the first `rank` numbers of k, a view, and need not be written; such k and q
        come rotated, and rope is None.
        """

    # optional
    kinds: ClassVar[tuple[type, ...]] = (Paged, Windowed)  # of KVSpec that it knows: any other is refused for it
    extras: ClassVar[frozenset[str]] = frozenset()  # of EXTRAS that it serves: a need of any other is refused for it
    exports: ClassVar[bool] = False  # whether tokens can be read from its caches and written into them
    graphs: ClassVar[Literal["any", "uniform", "none"]] = "none"  # buckets at which `run` may be inside a capture
    elastic: ClassVar[bool] = False  # whether `run` may be inside a capture of any size: it reads its rows in the plan

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.graphs not in GRAPHS:
            allowed = ", ".join(map(repr, GRAPHS))
            raise TypeError(f"{cls.__name__}.graphs must be one of {allowed}; got {cls.graphs!r}")

    def __init__(self, need: AttentionNeed, block_size: int, *, device: torch.device, ops: Ops) -> None:
        self.need, self.block_size, self.device, self.ops = need, block_size, device, ops

    @classmethod
    def objection(cls, need: AttentionNeed) -> str | None:
        """Why this backend cannot serve `need`, or None; what it was not written for is refused for it."""
        if not isinstance(need.kv, cls.kinds):
            known = ", ".join(kind.__name__ for kind in cls.kinds)
            return f"{type(need.kv).__name__} caches are unknown to it; it knows {known}"
        for field, what in EXTRAS.items():
            if getattr(need, field) and field not in cls.extras:
                return f"{what} are unknown to it"
        return cls.rejects(need)

    @classmethod
    def may_capture(cls, bucket: Bucket) -> bool:
        """Whether `run` may be inside a capture at `bucket`; elsewhere it runs between captured pieces."""
        return cls.graphs == "any" or (cls.graphs == "uniform" and bucket.is_uniform)

    @classmethod
    def block_bytes(cls, spec: KVSpec, block_size: int) -> int:
        """Bytes that one block takes in one layer."""
        item: int = getattr(torch, spec.dtype).itemsize
        return block_size * numbers_a_token(spec) * item

    def rotate(self, q: Tensor, k: Tensor, rope: Rope | None) -> tuple[Tensor, Tensor]:
        """q and k after the rotary embedding, for backends that do not fuse it."""
        return (q, k) if rope is None else self.ops.rotary(q, k, rope.table, rope.positions, rope.interleaved)

    # tokens in and out of caches: a backend overrides `token_views`, or where its layout has none, the three after it

    def token_views(self, cache: Cache) -> Mapping[str, Tensor]:
        """Each of `need.kv.parts` as a view of one layer's cache, `[num_blocks, block_size, heads, dim]`."""
        raise Refused(f"attention backend {self.name!r} gives no tokens out of its caches and takes none in")

    def export_tokens(self, layers: Sequence[LayerKV], slots: npt.NDArray[np.int64]) -> KVTokens:
        """The tokens at `slots` (block * block_size + offset), in that order, in canonical form; they stay."""
        self._expect_plain_numbers()
        where = divided(slots, self.block_size, self.device)
        return read_tokens(self.need.kv, [self.token_views(layer.cache) for layer in layers], where)

    def import_tokens(self, layers: Sequence[LayerKV], slots: npt.NDArray[np.int64], tokens: KVTokens) -> None:
        """Write tokens, which may lie on another device, to as many different slots; nothing else is changed.

        ValueError, before anything is written, when they are of another kind, number or scale.
        """
        self._expect_plain_numbers()
        tokens.check(self.need.kv, len(layers), len(slots))
        where = divided(slots, self.block_size, self.device)
        write_tokens(tokens, [self.token_views(layer.cache) for layer in layers], where)

    def _expect_plain_numbers(self) -> None:
        if self.need.kv_scales:
            raise Refused("Cached numbers with scales of their own are not exchanged; a cache without scales can be")

    def copy_blocks(self, layers: Sequence[LayerKV], pairs: npt.NDArray[np.int64]) -> None:
        """Copy whole blocks, `pairs` `[copies, 2]` of (from, to); all are read before any is written."""
        sources, targets = torch.from_numpy(pairs.astype(np.int64)).to(self.device).unbind(1)
        for layer in layers:
            for view in self.token_views(layer.cache).values():
                view[targets] = view[sources]


def divided(slots: npt.NDArray[np.int64], block_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(block, offset) of each slot, on the device."""
    blocks, offsets = np.divmod(slots.astype(np.int64), block_size)
    return torch.from_numpy(blocks).to(device), torch.from_numpy(offsets).to(device)
