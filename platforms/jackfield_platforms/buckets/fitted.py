"""Ladders fitted to a recorded trace: the sizes that waste least under a budget of graphs.

With sizes sorted, the best k of them are found by dynamic programming: the waste of requests between two neighbouring
sizes depends on those two alone, as in optimal one-dimensional quantisation (Bruce, 1965).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jackfield_platforms.bucket import Bucket, Limits, Phase
from jackfield_platforms.buckets.ladder import Listed
from jackfield_platforms.buckets.trace import Trace

Ints = npt.NDArray[np.int64]
_MOST_SIZES = 512  # distinct sizes that the search tells apart; more are rounded up onto a grid


def fit_sizes(seen: Sequence[int], limit: int, count: int) -> list[Listed]:
    """For 1 to `count` sizes, the list that wastes least over the sizes seen; the last of each is `limit`.

    O(count * distinct sizes squared).
    """
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}")
    step = -(-limit // _MOST_SIZES)
    rounded = np.minimum(-(-np.asarray(seen, np.int64) // step) * step, limit)
    if rounded.size and rounded.min() < 1:
        raise ValueError("sizes seen must be positive")
    sizes, times = np.unique(np.append(rounded, limit), return_counts=True)
    times[-1] -= 1  # `limit` must be among the sizes, whether it was seen or not
    return [Listed(tuple(chosen)) for chosen in _choose(sizes, times, count)]


def _choose(sizes: Ints, times: Ints, count: int) -> list[list[int]]:
    """The best 1, 2, ... of `sizes`, the last one always among them."""
    most = len(sizes)
    before = np.concatenate(([0], np.cumsum(times)))  # requests of the sizes before each
    # cost[i, j]: padded tokens when sizes i..j all run at size j
    padded = (before[None, 1:] - before[:-1, None]) * sizes[None, :]
    cost = np.where(np.arange(most)[:, None] <= np.arange(most)[None, :], padded, np.iinfo(np.int64).max // 4)
    best = cost[0].copy()  # the cheapest way to run sizes 0..j with the sizes chosen so far, the last being j
    cuts: list[Ints] = []
    chosen = [[int(sizes[-1])]]
    for _ in range(1, min(count, most)):
        through = best[:-1, None] + cost[1:, :]  # a size i, then one for i + 1..j
        cut = through.argmin(axis=0)
        shorter = best
        best = np.minimum(through.min(axis=0), best)
        cuts.append(np.where(through.min(axis=0) < shorter, cut, -1))
        chosen.append(_walk(sizes, cuts))
    return chosen


def _walk(sizes: Ints, cuts: list[Ints]) -> list[int]:
    """Follow the cuts back from the last size; -1: one size fewer does as well."""
    place, picked = len(sizes) - 1, [int(sizes[-1])]
    for cut in reversed(cuts):
        if cut[place] >= 0:
            place = int(cut[place])
            picked.append(int(sizes[place]))
    return picked[::-1]


def fit_buckets(trace: Trace, limits: Limits, budget: int) -> tuple[Bucket, ...]:
    """At most `budget` buckets (at least 2) for a trace: ragged decode and mixed launches by rows, tokens and blocks.

    Each phase gets a share of the budget and divides it between its two dimensions; all divisions are tried.
    """
    if budget < 2:
        raise ValueError(f"budget must be at least 2, one graph a phase; got {budget}")
    decode, mixed = trace.launches("decode", limits.block_size), trace.launches("mixed", limits.block_size)
    best: tuple[int, tuple[Bucket, ...]] | None = None
    for share in {1, budget // 4, budget // 2, 3 * budget // 4, budget - 1} - {0}:
        for_decode = _fit_phase("decode", decode, limits, share)
        for_mixed = _fit_phase("mixed", mixed, limits, budget - share)
        waste = for_decode[0] + for_mixed[0]
        if best is None or waste < best[0]:
            best = waste, (*for_decode[1], *for_mixed[1])
    assert best is not None
    return best[1]


def _fit_phase(phase: Phase, launches: Ints, limits: Limits, budget: int) -> tuple[int, tuple[Bucket, ...]]:
    """Padded work of the launches `[count, (tokens, longest row in blocks)]`, and the buckets that make it least."""
    top = limits.max_rows if phase == "decode" else limits.max_tokens
    tokens = fit_sizes(launches[:, 0].tolist(), top, budget)
    blocks = fit_sizes(launches[:, 1].tolist(), limits.max_blocks, budget)
    best: tuple[int, tuple[Bucket, ...]] | None = None
    for first in tokens:
        second = blocks[min(budget // len(first.values), len(blocks)) - 1]
        made = tuple(
            Bucket(phase, min(size, limits.max_rows), size, 1 if phase == "decode" else None, max_blocks=most)
            for size in first.values
            for most in second.values
        )
        waste = _padded(launches, first, second, limits.max_rows)
        if best is None or waste < best[0]:
            best = waste, made
    assert best is not None
    return best


def _padded(launches: Ints, tokens: Listed, blocks: Listed, max_rows: int) -> int:
    """Tokens and blocks that the launches take in these sizes."""
    size = np.asarray(tokens.values)[np.searchsorted(tokens.values, launches[:, 0])]
    most = np.asarray(blocks.values)[np.searchsorted(blocks.values, launches[:, 1])]
    return int((size + np.minimum(size, max_rows) * most).sum())
