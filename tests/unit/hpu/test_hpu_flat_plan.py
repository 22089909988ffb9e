"""The flat list of blocks: what is listed for which row, and what pads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jackfield_hpu.flat_plan import NOBODY, FlatPlan, FlatSizes, flat_arrays
from jackfield_platforms.attention import AttentionNeed, Layout
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Paged, Windowed

BLOCK = 8
PLAIN = AttentionNeed(Paged(2, 16, 16, "float32"), 4, 0.3)
WINDOW = AttentionNeed(Windowed(2, 16, 16, "float32", window=5), 4, 0.3)


def layout(lengths, new=None, *, rows, queries=1):
    """Rows with blocks 1, 2, ... in order, padded to `rows`."""
    new = [1] * len(lengths) if new is None else new
    counts = [-(-length // BLOCK) for length in lengths]
    table, first = np.zeros((rows, max(counts)), np.int32), 1
    for row, count in enumerate(counts):
        table[row, :count] = np.arange(first, first + count)
        first += count
    pad = (0, rows - len(lengths))
    return Layout(
        num_rows=len(lengths),
        num_tokens=sum(new),
        query_start=np.arange(rows + 1, dtype=np.int32) * queries,
        num_new=np.pad(np.array(new, np.int32), pad),
        kv_len=np.pad(np.array(lengths, np.int32), pad),
        block_table=table,
    )


def planned(step, bucket, need=PLAIN):
    sizes = FlatSizes.of_bucket(bucket, need, BLOCK)
    plan = FlatPlan.blank(sizes, torch.device("cpu"))
    plan.fill(flat_arrays(step, sizes, need))
    return {name: tensor.tolist() for name, tensor in vars(plan).items()}


def test_every_row_s_blocks_are_listed_and_the_rest_is_nobody_s():
    plan = planned(layout([9, 3], rows=4), Bucket("decode", 4, 4, 1, max_blocks=4, num_blocks=5))
    assert plan["blocks"] == [1, 2, 3, 0, 0]
    assert plan["groups"] == [0, 0, 1, NOBODY, NOBODY]
    assert plan["starts"] == [0, 8, 0, 0, 0]
    assert plan["positions"] == [[8], [2], [-1], [-1]]
    assert plan["slots"] == [2 * BLOCK, 3 * BLOCK + 2, 0, 0]


def test_a_window_lists_the_blocks_in_sight_alone():
    plan = planned(layout([21, 8], rows=2), Bucket("decode", 2, 2, 1, max_blocks=4), WINDOW)
    assert plan["blocks"] == [3, 4, 0, 0]  # positions 16 to 20 of the first row, 3 to 7 of the second
    assert plan["starts"][:2] == [16, 0]


def test_a_window_needs_fewer_entries_than_the_bucket_has_blocks():
    bucket = Bucket("decode", 4, 4, 1, max_blocks=16, num_blocks=40)
    assert FlatSizes.of_bucket(bucket, WINDOW, BLOCK).entries == 4 * 2
    assert FlatSizes.of_bucket(bucket, PLAIN, BLOCK).entries == 40


def test_drafts_are_queries_of_their_row():
    step = layout([9, 12], [2, 3], rows=2, queries=3)
    plan = planned(step, Bucket("decode", 2, 6, 3, max_blocks=2))
    assert plan["positions"] == [[7, 8, -1], [9, 10, 11]]
    assert plan["slots"] == [BLOCK + 7, 2 * BLOCK, 0, 4 * BLOCK + 1, 4 * BLOCK + 2, 4 * BLOCK + 3]


def test_a_step_that_does_not_fit_is_an_error_with_both_sizes():
    with pytest.raises(ValueError, match=r"holds \(2, 1, 2\) \(rows, queries, blocks of all rows\).*needs \(2, 1, 3\)"):
        planned(layout([9, 3], rows=2), Bucket("decode", 2, 2, 1, max_blocks=4, num_blocks=2))


def test_a_bucket_without_a_bound_is_refused():
    with pytest.raises(ValueError, match="needs a bound on blocks; the bucket is decode, num_rows 2, num_tokens 2"):
        FlatSizes.of_bucket(Bucket("decode", 2, 2), PLAIN, BLOCK)
