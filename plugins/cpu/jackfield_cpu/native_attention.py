"""Paged attention with the plugin's own kernels: one call a layer rotates, writes keys and values and attends.

The cache lies as the kernels read it, in panels of 16 lanes and pairs of numbers (`native/attention.h`): 16 tokens to a
panel of keys, 16 numbers of a head to a panel of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, addressof, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield_cpu.cache_pages import is_resident
from jackfield_cpu.kernels import DTYPES, Kernels, kernels, refusal
from jackfield_platforms.attention import AttentionBackend, AttentionNeed, LayerKV, Layout, Rope, divided
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Windowed
from jackfield_platforms.kv_tokens import KVHeader, KVTokens
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import Ops

LANES = 16


class _Shape(Structure):
    """`AttentionShape` of native/attention.h."""

    _fields_ = (
        *((name, c_int64) for name in ("query_heads", "kv_heads", "k_dim", "v_dim", "block_size", "window")),
        ("scale", c_float),
        ("soft_cap", c_float),
        ("dtype", c_int32),
    )


class _Layout(Structure):
    """`AttentionLayout`."""

    _fields_ = (
        ("rows", c_int64),
        *((name, c_void_p) for name in ("query_start", "num_new", "kv_len", "block_table")),
        ("table_width", c_int64),
        ("table_stride", c_int64),
    )


class _Step(Structure):
    """`AttentionStep`."""

    _fields_ = (
        *((name, c_int64) for name in ("rows", "writes", "items", "groups", "slots", "most_queries")),
        *((name, c_void_p) for name in ("row", "write", "item", "group", "table")),
    )


class _Heads(Structure):
    """`Heads`: `[tokens, heads, dim]`, whose last dimension is dense."""

    _fields_ = (("data", c_void_p), ("token_stride", c_int64), ("head_stride", c_int64))


class _Call(Structure):
    """`AttentionCall`."""

    _fields_ = (
        *((name, _Heads) for name in ("q", "k", "v", "out")),
        *((name, c_void_p) for name in ("k_cache", "v_cache")),
        ("page_blocks", c_int64),
        *((name, c_void_p) for name in ("sinks", "rope", "positions")),
        ("rotary_dim", c_int64),
        ("interleaved", c_int32),
    )


@dataclass(frozen=True)
class PanelCache:
    """Keys and values of one layer, in pairs: `[..., 16, 2]` in 16 bits, `[..., 2, 16]` in float32.

    A page holds blocks whose heads lie apart: about as many as fill a large page of memory, so that a short prompt
    touches few of them, and a long one's keys lie in a row.
    """

    k: Tensor  # [pages, kv_heads, page_blocks, block_size / 16, k_dim / 2, pair of 16 tokens]
    v: Tensor  # [pages, kv_heads, page_blocks, block_size / 2, v_dim / 16, pair of 16 numbers]

    @property
    def page_blocks(self) -> int:
        """Blocks of a page."""
        return self.k.shape[2]

    def read(self, block: Tensor, offset: Tensor) -> dict[str, Tensor]:
        """Tokens as `[tokens, kv_heads, dim]`."""
        page, inner = self._places(block)
        k = _pairs_last(self.k)[page, :, inner, offset // LANES, :, offset % LANES]
        v = _pairs_last(self.v)[page, :, inner, offset // 2, :, :, offset % 2]
        return {"k": k.flatten(2), "v": v.flatten(2)}

    def write(self, block: Tensor, offset: Tensor, k: Tensor, v: Tensor) -> None:
        """Store k and v `[tokens, kv_heads, dim]`."""
        page, inner = self._places(block)
        keys, values = _pairs_last(self.k), _pairs_last(self.v)
        keys[page, :, inner, offset // LANES, :, offset % LANES] = k.to(keys.dtype).unflatten(2, (-1, 2))
        values[page, :, inner, offset // 2, :, :, offset % 2] = v.to(values.dtype).unflatten(2, (-1, LANES))

    def copy(self, sources: Tensor, targets: Tensor) -> None:
        """Copy whole blocks."""
        (from_page, from_inner), (to_page, to_inner) = self._places(sources), self._places(targets)
        for x in (self.k, self.v):
            x[to_page, :, to_inner] = x[from_page, :, from_inner]

    def _places(self, block: Tensor) -> tuple[Tensor, Tensor]:
        return block // self.page_blocks, block % self.page_blocks


@dataclass
class NativePlan:
    """One step's work, as the kernels made it: `step` points into `memory`."""

    step: _Step = field(default_factory=_Step)
    memory: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(1024, np.int32))


class NativeAttention(AttentionBackend[NativePlan]):
    """All threads share each step's keys, also those of one long sequence. Scores and sums are float32."""

    name = "native"
    block_sizes = (16, 32, 64, 128)
    phases = frozenset({"prefill", "decode", "mixed"})
    exports = True
    elastic = True
    page_bytes = 2 << 20  # of keys; what a short prompt touches comes from the system a large page at a time

    def __init__(self, need: AttentionNeed, block_size: int, *, device: torch.device, ops: Ops) -> None:
        super().__init__(need, block_size, device=device, ops=ops)
        found = kernels()
        assert isinstance(found, Kernels), "rejected"
        self.library, kv = found.library, need.kv
        self.dtype = torch_dtype(kv.dtype)
        self.shape = _Shape(
            query_heads=need.query_heads,
            kv_heads=kv.kv_heads,
            k_dim=kv.k_dim,
            v_dim=kv.v_dim,
            block_size=block_size,
            window=kv.window if isinstance(kv, Windowed) else 0,
            scale=need.scale,
            soft_cap=need.soft_cap or 0.0,
            dtype=DTYPES[self.dtype],
        )
        self.shape_at = addressof(self.shape)

    @classmethod
    def rejects(cls, need: AttentionNeed) -> str | None:
        found, kv = kernels(), need.kv
        if (reason := refusal(found, kv.dtype)) is not None:
            return reason
        if need.query_dtype != kv.dtype:
            return f"query dtype {need.query_dtype} is not the cache's, {kv.dtype}"
        if need.query_heads % kv.kv_heads:
            return f"{need.query_heads} query heads are no multiple of {kv.kv_heads} kv heads"
        if kv.k_dim % 2:
            return f"k_dim {kv.k_dim} is odd"
        if kv.v_dim % LANES:
            return f"v_dim {kv.v_dim} is no multiple of {LANES}"
        return None

    def allocate(self, num_blocks: int) -> PanelCache:
        kv, size = self.need.kv, self.block_size
        fill = self.page_bytes // (kv.kv_heads * size * kv.k_dim * self.dtype.itemsize)
        pages = -(-num_blocks // max(1, fill))
        places = (pages, kv.kv_heads, -(-num_blocks // pages))
        pair = (2, LANES) if self.dtype == torch.float32 else (LANES, 2)
        k = torch.empty(*places, size // LANES, kv.k_dim // 2, *pair, dtype=self.dtype)
        v = torch.empty(*places, size // 2, kv.v_dim // LANES, *pair, dtype=self.dtype)
        resident = is_resident()
        for x in (k, v):
            self.library.jackfield_large_pages(x.data_ptr(), x.nbytes)
            if resident:
                x.zero_()
        return PanelCache(k, v)

    def blank(self, bucket: Bucket) -> NativePlan:
        return NativePlan()

    def plan(self, layout: Layout, bucket: Bucket, into: NativePlan) -> None:
        columns = (layout.query_start, layout.num_new, layout.kv_len)
        held = [np.ascontiguousarray(column, np.int32) for column in columns]
        table = layout.block_table
        if table.dtype != np.int32 or (table.size and table.strides[1] != table.itemsize):
            table = np.ascontiguousarray(table, np.int32)
        addresses = [array.ctypes.data for array in (*held, table)]
        given = _Layout(layout.num_rows, *addresses, table.shape[1], table.strides[0] // table.itemsize)
        needed = self._fill(given, into)
        if needed > into.memory.size:
            into.memory = np.empty(2 * needed, np.int32)
            self._fill(given, into)

    def _fill(self, given: _Layout, into: NativePlan) -> int:
        """Plan into `into`, unless its memory is smaller than what is returned."""
        memory = into.memory
        needed: int = self.library.jackfield_attention_plan(
            self.shape_at, addressof(given), memory.ctypes.data, memory.size, addressof(into.step)
        )
        if needed < 0:
            most = given.table_width * self.block_size
            raise ValueError(f"kv_len must be at most {most}, which the block table has room for; a row is longer")
        return needed

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, layer: LayerKV, plan: NativePlan, rope: Rope | None = None
    ) -> Tensor:
        q, k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k, v))
        out = q.new_empty(q.shape[0], q.shape[1], v.shape[2])
        cache: PanelCache = layer.cache
        sinks = None if layer.sinks is None else layer.sinks.float().contiguous()
        call = _Call(_heads(q), _heads(k), _heads(v), _heads(out), cache.k.data_ptr(), cache.v.data_ptr())
        call.page_blocks = cache.page_blocks
        call.sinks = None if sinks is None else sinks.data_ptr()
        if rope is not None:
            table, positions = rope.table.contiguous(), rope.positions.to(torch.int64).contiguous()
            call.rope, call.positions = table.data_ptr(), positions.data_ptr()
            call.rotary_dim, call.interleaved = table.shape[1], rope.interleaved
        self.library.jackfield_attention(self.shape_at, addressof(plan.step), addressof(call))
        return out

    def export_tokens(self, layers: Sequence[LayerKV], slots: npt.NDArray[np.int64]) -> KVTokens:
        where = divided(slots, self.block_size, self.device)
        parts = [layer.cache.read(*where) for layer in layers]
        tensors = {name: torch.stack([part[name] for part in parts]) for name in self.need.kv.parts}
        return KVTokens(KVHeader(self.need.kv, len(layers), len(slots)), tensors)

    def import_tokens(self, layers: Sequence[LayerKV], slots: npt.NDArray[np.int64], tokens: KVTokens) -> None:
        tokens.check(self.need.kv, len(layers), len(slots))
        where = divided(slots, self.block_size, self.device)
        for number, layer in enumerate(layers):
            k, v = (tokens.tensors[name][number].to(self.device) for name in ("k", "v"))
            layer.cache.write(*where, k, v)

    def copy_blocks(self, layers: Sequence[LayerKV], pairs: npt.NDArray[np.int64]) -> None:
        sources, targets = torch.from_numpy(pairs.astype(np.int64)).unbind(1)
        for layer in layers:
            layer.cache.copy(sources, targets)


def _heads(x: Tensor) -> _Heads:
    return _Heads(x.data_ptr(), x.stride(0), x.stride(1))


def _pairs_last(x: Tensor) -> Tensor:
    """A view of keys or values as `[..., 16, 2]`, whatever the dtype."""
    return x.transpose(-1, -2) if x.dtype == torch.float32 else x
