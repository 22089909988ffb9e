"""Softmax over a flat list of blocks: each block by itself first, then what it counts for among its row's blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LOWEST = torch.finfo(torch.float32).min
"""The bias of a hidden score. Not minus infinity: a block may be hidden from one query of its row and not from another,
and infinities that are subtracted make no number."""


@dataclass(frozen=True)
class FlatScores:
    """Scores of every block, and whose they are."""

    scores: Tensor  # float32 [entries, kv_heads, group, queries, block_size]; hidden ones are finite
    bias: Tensor  # float32 [entries, 1, 1, queries, block_size]: 0, or LOWEST where a key is hidden
    groups: Tensor  # int32 [entries] the row; -1: nobody's
    mapping: Tensor  # float32 [entries, rows], 1 where the block is the row's


BlockSoftmax = Callable[[FlatScores, Tensor | None], Tensor]
"""Weights of every block, in the shape of the scores, that sum to 1 over a row's blocks; sinks are [query_heads]. What
is nobody's may be any finite number."""


def block_softmax(flat: FlatScores, sinks: Tensor | None) -> Tensor:
    """The definition, in torch. Maxima of rows are scattered, sums are products with the mapping."""
    scores = flat.scores + flat.bias
    top = scores.amax(-1, keepdim=True)
    weights = torch.exp(scores - top)
    sums, highest = weights.sum(-1).flatten(1), top.flatten(1)  # [entries, heads * queries]
    peaks = _row_peaks(highest, flat)  # [rows + 1, heads * queries]
    sink = None if sinks is None else _spread(sinks, flat.scores.shape)
    if sink is not None:
        peaks = torch.maximum(peaks, sink)
    share = torch.exp(highest - peaks.index_select(0, _owners(flat)))
    total = flat.mapping.t() @ (share * sums)
    if sink is not None:
        total = total + torch.exp(sink - peaks[:-1])
    total = flat.mapping @ total
    return weights * (share / torch.where(total == 0, 1.0, total)).view_as(top)


def _owners(flat: FlatScores) -> Tensor:
    """The row of each entry, and one more for all that is nobody's: int64 [entries]."""
    return torch.where(flat.groups < 0, flat.mapping.shape[1], flat.groups).to(torch.int64)


def _row_peaks(highest: Tensor, flat: FlatScores) -> Tensor:
    floor = highest.new_full((flat.mapping.shape[1] + 1, highest.shape[1]), LOWEST)
    return floor.scatter_reduce(0, _owners(flat)[:, None].expand_as(highest), highest, "amax")


def _spread(sinks: Tensor, shape: torch.Size) -> Tensor:
    """A sink for each head and query, [heads * queries]."""
    _, kv_heads, group, queries, _ = shape
    return sinks.float().view(kv_heads, group, 1).expand(-1, -1, queries).flatten()
