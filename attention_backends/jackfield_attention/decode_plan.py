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
from jackfield_platforms.kv import Latent
from jackfield_platforms.linear import torch_dtype

Int32s = npt.NDArray[np.int32]

GROUP_BYTES = 4 << 20  # of float32 keys gathered at once: small enough to stay in a last-level cache


@dataclass(frozen=True)
class DecodeGroup:
    """Consecutive rows whose keys are gathered together, each padded to whole blocks and as many as the longest has.

    The tensors from `raw` on are views of the plan's scratch.
    """

    queries: slice  # of [rows * kv_heads]
    gather: Tensor  # flat (block, head) indices, int32 [rows * kv_heads * blocks]
    hidden: Tensor | None  # bool [rows, 1, last keys]: gathered, but not in sight of the row; None: all are in sight
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
    values: (
        Tensor  # int32 flat rows of the cached values: row by row, query head by query head, key by key; latent: none
    )
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
        offsets = torch.arange(block_size, dtype=torch.int32, device=device)
        self.offsets = offsets.expand(need.query_heads // kv_heads, 1, block_size)
        self._kept: _Scratch | None = None
        self.max_blocks = GROUP_BYTES // (4 * kv_heads * need.kv.k_dim * block_size)

    def plan(self, layout: Layout, rows: Ints, written: Ints) -> DecodePlan:
        """Sort and group `rows` (at least one), each of one query token.

        `written` `[tokens, kv_heads]` are the flat cache rows of the step's tokens.
        """
        spans = Spans.of(layout, rows, window_of(self.need.kv), self.block_size)
        row_blocks = -(-spans.length // self.block_size)
        bounds = group_bounds(row_blocks, self.max_blocks)
        blocks = [int(row_blocks[start]) for start, _ in bounds]  # of each group's longest row
        scores = [self._scores(stop - start, count) for (start, stop), count in zip(bounds, blocks, strict=True)]
        most = max((stop - start) * count for (start, stop), count in zip(bounds, blocks, strict=True))
        num_values = sum(scores)
        scratch = self._scratch(num_values, most)
        listed = not isinstance(self.need.kv, Latent)  # latent values are among the gathered keys
        values = torch.empty(num_values if listed else 0, dtype=torch.int32, device=self.device)
        bags = np.empty(rows.size * self.need.query_heads, np.int32)
        tokens = layout.query_start[spans.rows]
        newest = torch.from_numpy(written[tokens].astype(np.int32)).to(self.device)
        groups, first = [], 0
        for (start, stop), count, size in zip(bounds, blocks, scores, strict=True):
            part = slice(start, stop)
            group = self._group(part, spans.block_ids(layout, part, count), spans, scratch, first)
            if listed:
                self._values(group, newest[part], values, first)
            heads = slice(start * self.need.query_heads, stop * self.need.query_heads)
            bags[heads] = np.arange(first, first + size, count * self.block_size)
            groups.append(group)
            first += size
        return DecodePlan(
            tokens=torch.from_numpy(tokens).to(self.device, torch.int64),
            groups=groups,
            values=values,
            bags=torch.from_numpy(bags).to(self.device),
            weights=scratch.weights[:num_values],
        )

    def _scores(self, rows: int, blocks: int) -> int:
        return rows * self.need.query_heads * blocks * self.block_size

    def _values(self, group: DecodeGroup, newest: Tensor, values: Tensor, first: int) -> None:
        """Write a group's flat value rows into `values` from `first` on; `newest` `[rows, kv_heads]` are those of each
        row's last key.

        That one stands in for hidden keys, so that a weight of 0 never meets a number that nobody wrote.
        """
        (rows, kv_heads), size, same = newest.shape, self.block_size, len(self.offsets)
        blocks = group.gather.numel() // (rows * kv_heads)
        keys = blocks * size
        out = values.as_strided((rows * kv_heads, same, blocks, size), (same * keys, keys, size, 1), first)
        torch.add(self.offsets, group.gather.view(rows * kv_heads, 1, blocks, 1), alpha=size, out=out)
        if group.hidden is not None:
            last = group.hidden.shape[-1]
            strides = (kv_heads * same * keys, same * keys, keys, 1)
            out = values.as_strided((rows, kv_heads, same, last), strides, first + keys - last)
            torch.where(group.hidden[:, None], newest.view(rows, kv_heads, 1, 1), out, out=out)

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

    def _group(self, part: slice, ids: Int32s, spans: Spans, scratch: _Scratch, first: int) -> DecodeGroup:
        """The group of the rows `part` and their blocks `ids`, whose scores start at `first` in the scratch."""
        (rows, blocks), kv_heads, dim = ids.shape, self.heads.size, self.need.kv.k_dim
        heads, keys = self.need.query_heads, blocks * self.block_size
        gathered = (rows * kv_heads * blocks, self.block_size * dim)
        by_row = (rows, heads, keys), (heads * keys, keys, 1), first
        hidden = spans.hidden(part, keys)
        # one view each: as_strided costs a third of the slices and views that it stands for
        return DecodeGroup(
            queries=slice(part.start * kv_heads, part.stop * kv_heads),
            gather=torch.from_numpy((ids[:, None, :] * kv_heads + self.heads).ravel()).to(self.device),
            hidden=None if hidden is None else torch.from_numpy(hidden[:, None]).to(self.device),
            raw=scratch.raw.as_strided(gathered, (gathered[1], 1)),
            wide=scratch.wide.as_strided(gathered, (gathered[1], 1)),
            keys=scratch.wide.as_strided((rows * kv_heads, dim, keys), (keys * dim, 1, dim)),
            scores=scratch.scores.as_strided(
                (rows * kv_heads, heads // kv_heads, keys), (heads // kv_heads * keys, keys, 1), first
            ),
            by_row=scratch.scores.as_strided(*by_row),
            weights=scratch.weights.as_strided(*by_row),
        )


def _grown(old: int, wanted: int) -> int:
    return old if wanted <= old else max(wanted, old + old // 2)
