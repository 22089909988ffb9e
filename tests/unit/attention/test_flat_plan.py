"""Plans of the flat form: shapes from the bucket alone, nothing that a graph capture or a compiler would trip over."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_platforms.bucket import Bucket

SIZES = {"num_rows": 6, "num_tokens": 80, "max_blocks": 12}


def random_rows(rng):
    rows = [(int(rng.integers(0, 80)), 1) for _ in range(rng.integers(1, 4))]
    for _ in range(rng.integers(0, 3)):
        new = int(rng.integers(1, 25))
        rows.append((new + int(rng.integers(0, 50)), new))
    return rows


def shapes_and_addresses(plan):
    tensors = [getattr(plan, slot.name) for slot in fields(plan)]
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors)
    return [(tensor.shape, tensor.dtype, tensor.data_ptr()) for tensor in tensors]


@pytest.mark.parametrize("window", [None, 10])
def test_fifty_layouts_in_one_bucket_fill_the_same_buffers_and_stay_right(scene, need, window):
    rng, bucket = np.random.default_rng(5), Bucket("mixed", **SIZES)
    plan, first = None, None
    for seed in range(50):
        rows = random_rows(rng)
        held = sum(new for _, new in rows)
        made = scene(FlatBlockAttention, rows, need(window=window), seed=seed, padding=SIZES["num_tokens"] - held)
        plan = made.backend.blank(bucket) if plan is None else plan
        first = first or shapes_and_addresses(plan)
        made.backend.plan(made.layout, bucket, plan)
        assert shapes_and_addresses(plan) == first
        made.check(made.backend.run(made.q, made.k, made.v, made.layer, plan))


def test_a_decode_bucket_lists_one_tile_a_row_and_nothing_more(scene, need):
    bucket = Bucket("decode", num_rows=4, num_tokens=4, query_len=1, max_blocks=5)
    made = scene(FlatBlockAttention, [(30, 1), (0, 1), (9, 1), (40, 1)], need())
    plan = made.backend.blank(bucket)
    assert plan.tile_tokens.shape == (4, 1)
    assert plan.blocks.shape == (20,)
    made.check(made.run(bucket))


def test_a_windowed_bucket_lists_only_blocks_in_the_window(scene, need):
    bucket = Bucket("decode", num_rows=4, num_tokens=4, query_len=1, max_blocks=1000)
    made = scene(FlatBlockAttention, [(90, 1)], need(window=17))
    assert made.backend.blank(bucket).blocks.shape == (4 * 4,), "17 tokens in blocks of 8 touch at most 4"


def test_the_flat_list_may_be_bounded_below_rows_times_blocks(scene, need):
    bucket = Bucket("decode", num_rows=4, num_tokens=4, query_len=1, max_blocks=12, num_blocks=15)
    made = scene(FlatBlockAttention, [(90, 1), (8, 1), (3, 1), (1, 1)], need())
    assert made.backend.blank(bucket).blocks.shape == (15,)
    made.check(made.run(bucket))


@pytest.mark.parametrize("sizes", [{"num_tokens": 30}, {"num_rows": 1, "num_tokens": 40}, {"max_blocks": 2}], ids=str)
def test_a_step_larger_than_its_bucket_is_an_error_that_gives_both_sizes(scene, need, sizes):
    made = scene(FlatBlockAttention, [(50, 1), (60, 1), (60, 38)], need())
    bucket = Bucket("mixed", **{"num_rows": 3, "num_tokens": 40, "max_blocks": 8, **sizes})
    with pytest.raises(ValueError, match=r"bucket holds .* needs .*larger one"):
        made.run(bucket)


@pytest.mark.parametrize("mode", ["eager", "aot_eager"])
@pytest.mark.parametrize("changes", [{}, {"window": 9, "soft_cap": 2.0, "sinks": True}], ids=str)
def test_run_compiles_whole_and_once_for_a_bucket(scene, need, mode, changes):
    bucket = Bucket("mixed", **SIZES)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled = plan = None
    for seed, rows in enumerate(([(20, 1), (60, 30)], [(33, 1), (0, 1), (9, 9), (50, 3)])):
        padding = SIZES["num_tokens"] - sum(new for _, new in rows)
        made = scene(FlatBlockAttention, rows, need(**changes), seed=seed, padding=padding, num_blocks=40)
        if compiled is None:
            plan = made.backend.blank(bucket)
            compiled = torch.compile(made.backend.run, fullgraph=True, dynamic=False, backend=mode)
        made.backend.plan(made.layout, bucket, plan)
        made.check(compiled(made.q, made.k, made.v, made.layer, plan))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_backend_with_an_unknown_kind_of_graphs_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"Odd\.graphs must be one of 'any', 'uniform', 'none'; got 'full'"):
        type("Odd", (FlatBlockAttention,), {"graphs": "full"})
