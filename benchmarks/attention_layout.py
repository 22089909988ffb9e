"""A step's layout for benchmarks of attention."""

from __future__ import annotations

import numpy as np

from jackfield_platforms.attention import Layout


def layout_of(rows: list[tuple[int, int]], block: int, *, shuffled: bool = True) -> Layout:
    """Rows of (kv_len, new tokens); blocks of a row anywhere in the cache, or else one after the other."""
    lengths = np.array(rows, np.int32)
    width = -(-int(lengths[:, 0].max()) // block)
    table = np.arange(1, 1 + len(rows) * width, dtype=np.int32)
    if shuffled:
        table = np.random.default_rng(0).permutation(table)
    return Layout(
        num_rows=len(rows),
        num_tokens=int(lengths[:, 1].sum()),
        query_start=np.concatenate(([0], np.cumsum(lengths[:, 1]))).astype(np.int32),
        num_new=lengths[:, 1].copy(),
        kv_len=lengths[:, 0].copy(),
        block_table=table.reshape(len(rows), width),
    )
