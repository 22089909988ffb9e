"""The decode rows of a step in groups of similar length, and the scratch that every layer of every step reuses.

Steps of one backend run one after another on the device, so one scratch serves them all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jackfield_attention.decode_spans import Spans, group_bounds
from jackfield_attention.slots import Ints
from jackfield_attention.window import window_of
from jackfield_platforms.attention import AttentionNeed, Layout
from jackfield_platforms.linear import torch_dtype

Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

GROUP_BYTES = 4 << 20  # of float32 keys gathered at once: small enough to stay in a last-level cache


@dataclass(frozen=True)
class DecodeGroup:
    """Consecutive rows whose keys are gathered together. The tensors from `raw` on are views of the plan's scratch."""

    queries: slice  # of [rows * kv_heads]
    gather: Tensor  # flat (block, head) indices, int32 [rows * kv_heads * blocks]
    hidden: Tensor | None  # bool [rows, 1, keys]: gathered, but not in sight of the row; None: all are in sight
    raw: Tensor  # cache dtype [rows * kv_heads * blocks, block_size * k_dim]
    wide: Tensor  # the same in float32; the same memory when the cache is float32
    keys: Tensor  # [rows * kv_heads, k_dim, keys]: `wide`, transposed
    scores: Tensor  # float32 [rows * kv_heads, heads a kv head, keys]
    by_row: Tensor  # `scores` as [rows, query_heads, keys]
    weights: Tensor  # like `by_row`


@dataclass(frozen=True)
class DecodePlan:
    """The decode rows of a step, longest first."""

    tokens: Tensor  # int64 [rows] index of each row's query token
    groups: list[DecodeGroup]
    values: Tensor  # int32 flat rows of the cached values: row by row, query head by query head, key by key
    bags: Tensor  # int32 [rows * query_heads] where each (row, head) starts in `values`
    weights: Tensor  # float32, one for each of `values`


@dataclass(frozen=True)
class _Scratch:
    """Buffers that the groups of a plan take views of: keys share one, scores and weights lie side by side."""

    raw: Tensor  # [blocks of the largest group * kv_heads, block_size * k_dim], cache dtype
    wide: Tensor  # the same in float32
    scores: Tensor  # float32 [all scores of the plan]
    weights: Tensor  # the same


class DecodePlanner:
    """Makes decode plans for one need; keeps what does not depend on the step."""

    def __init__(self, need: AttentionNeed, block_size: int, device: torch.device) -> None:
        kv_heads = need.kv.kv_heads
        self.need, self.block_size, self.device = need, block_size, device
        self.heads = np.arange(kv_heads, dtype=np.int32)[:, None]
        self.offsets = np.arange(block_size, dtype=np.int32)
        self.value_step = np.repeat(self.heads * block_size, need.query_heads // kv_heads, axis=0)  # [query_heads, 1]
        self._kept: _Scratch | None = None
        self.max_keys = GROUP_BYTES // (4 * kv_heads * need.kv.k_dim)

    def plan(self, layout: Layout, rows: Ints) -> DecodePlan:
        """Sort and group `rows` (at least one), each of one query token."""
        spans = Spans.of(layout, rows, window_of(self.need.kv), self.block_size)
        bounds = group_bounds(spans.length, self.max_keys)
        keys = [int(spans.length[start]) for start, _ in bounds]  # of each group's longest row
        sizes = [(stop - start) * self.need.query_heads for start, stop in bounds]
        counts = np.repeat(keys, sizes)
        ends = np.cumsum(counts)
        blocks = max((stop - start) * -(-keys[i] // self.block_size) for i, (start, stop) in enumerate(bounds))
        scratch = self._scratch(int(ends[-1]), blocks)
        values = np.empty(ends[-1], np.int32)
        groups, used = [], 0
        for (start, stop), length, size in zip(bounds, keys, sizes, strict=True):
            part, place = slice(start, stop), slice(used, used + size * length)
            ids = spans.block_ids(layout, part, -(-length // self.block_size))
            hidden = spans.hidden(part, length)
            self._values(ids, spans.length[part], hidden, values[place].reshape(stop - start, -1, length))
            groups.append(self._group(part, ids, hidden, scratch, place))
            used = place.stop
        return DecodePlan(
            tokens=torch.from_numpy(layout.query_start[spans.rows]).to(self.device, torch.int64),
            groups=groups,
            values=torch.from_numpy(values).to(self.device),
            bags=torch.from_numpy((ends - counts).astype(np.int32)).to(self.device),
            weights=scratch.weights[: ends[-1]],
        )

    def _values(self, ids: Int32s, length: Ints, hidden: Bools | None, out: Int32s) -> None:
        """Flat value rows of block ids `[rows, blocks]` into out `[rows, query_heads, keys]`.

        A hidden key stands in with the row's last one, so that a weight of 0 never meets a number that nobody wrote.
        """
        first = (ids * (self.heads.size * self.block_size))[:, :, None] + self.offsets  # of kv head 0
        first = first.reshape(len(ids), -1)[:, : out.shape[-1]]
        if hidden is not None:
            last = first[np.arange(len(ids)), length - 1]
            first = np.where(hidden, last[:, None], first)
        np.add(first[:, None, :], self.value_step, out=out)

    def _scratch(self, num_weights: int, num_blocks: int) -> _Scratch:
        """Buffers of at least these sizes; kept from step to step, and made half as large again when they are too
        small.
        """
        kept, num_rows = self._kept, num_blocks * self.need.kv.kv_heads
        if kept is None or len(kept.weights) < num_weights or len(kept.raw) < num_rows:
            old_weights, old_rows = (0, 0) if kept is None else (len(kept.weights), len(kept.raw))
            kept = self._kept = self._allocate(_grown(old_weights, num_weights), _grown(old_rows, num_rows))
        return kept

    def _allocate(self, num_weights: int, num_rows: int) -> _Scratch:
        dtype = torch_dtype(self.need.kv.dtype)
        raw = torch.empty(num_rows, self.block_size * self.need.kv.k_dim, dtype=dtype, device=self.device)
        wide = raw if dtype == torch.float32 else torch.empty_like(raw, dtype=torch.float32)
        weights = torch.empty(num_weights, dtype=torch.float32, device=self.device)
        return _Scratch(raw, wide, torch.empty_like(weights), weights)

    def _group(self, part: slice, ids: Int32s, hidden: Bools | None, scratch: _Scratch, place: slice) -> DecodeGroup:
        """The group of the rows `part`, whose scores are the elements `place` of the scratch."""
        rows, kv_heads, dim = len(ids), self.heads.size, self.need.kv.k_dim
        blocks, heads, first = ids.shape[1], self.need.query_heads, place.start
        gathered = (rows * kv_heads * blocks, self.block_size * dim)
        keys = (place.stop - first) // (rows * heads)
        span = blocks * self.block_size * dim  # elements of one (row, kv head)
        by_row = (rows, heads, keys), (heads * keys, keys, 1), first
        # one view each: as_strided costs a third of the slices and views that it stands for
        return DecodeGroup(
            queries=slice(part.start * kv_heads, part.stop * kv_heads),
            gather=torch.from_numpy((ids[:, None, :] * kv_heads + self.heads).ravel()).to(self.device),
            hidden=None if hidden is None else torch.from_numpy(hidden[:, None]).to(self.device),
            raw=scratch.raw.as_strided(gathered, (gathered[1], 1)),
            wide=scratch.wide.as_strided(gathered, (gathered[1], 1)),
            keys=scratch.wide.as_strided((rows * kv_heads, dim, keys), (span, 1, dim)),
            scores=scratch.scores.as_strided(
                (rows * kv_heads, heads // kv_heads, keys), (heads // kv_heads * keys, keys, 1), first
            ),
            by_row=scratch.scores.as_strided(*by_row),
            weights=scratch.weights.as_strided(*by_row),
        )


def _grown(old: int, wanted: int) -> int:
    return old if wanted <= old else max(wanted, old + old // 2)
