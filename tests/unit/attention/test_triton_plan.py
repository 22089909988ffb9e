"""Plans and grids of the Triton backend: what depends on the bucket alone, and what a step puts into it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jackfield_attention.triton.backend import TritonAttention
from jackfield_attention.triton.gpu import Gpu
from jackfield_attention.triton.grid import MAX_SPLITS, Grid, splits_for
from jackfield_attention.triton.plan import NO_QUERY, PlanSizes, TritonPlan, fill
from jackfield_attention.triton.staging import GENERATIONS, Staging
from jackfield_attention.triton.tiles import ATTENTION, LATENT, attention_tiles, every_tile, latent_tiles, padded
from jackfield_platforms.attention import AttentionNeed, Layout
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Latent, Paged

H100 = Gpu("sm_90", 132)
LLAMA = AttentionNeed(Paged(8, 128, 128, "bfloat16"), 32, 128**-0.5, query_dtype="bfloat16")
DEEPSEEK = AttentionNeed(Latent(512, 64, "bfloat16"), 128, 0.1, query_dtype="bfloat16")
CPU = torch.device("cpu")


def layout_of(rows, columns=40, seed=0):
    rng = np.random.default_rng(seed)
    kv_len, new = (np.array(column, np.int32) for column in zip(*rows, strict=True))
    start = np.concatenate(([0], np.cumsum(new))).astype(np.int32)
    table = rng.integers(1, 1000, (len(rows), columns)).astype(np.int32)
    return Layout(len(rows), int(new.sum()), start, new, kv_len, table)


@pytest.mark.parametrize(
    ("rows", "max_keys", "splits"),
    [(1, 32_768, 64), (1, 512, 4), (8, 32_768, 8), (64, 32_768, 1), (256, 32_768, 1), (1, 0, 1)],
)
def test_splits_fill_the_device_and_no_more(rows, max_keys, splits):
    grid = Grid.of(Bucket("decode", rows, rows, max_blocks=max_keys // 64), LLAMA, H100, max_keys)
    assert (grid.tiles, grid.queries, grid.heads, grid.chunks, grid.splits) == (rows, 1, 4, 1, splits)
    assert grid.tile.rows == 16


def test_many_heads_that_share_latents_are_cut_in_chunks():
    grid = Grid.of(Bucket("decode", 1, 1, max_blocks=64), DEEPSEEK, H100, 4096)
    assert grid.heads * grid.chunks == 128
    assert grid.queries == 1


def test_drafts_share_a_tile_with_their_token():
    grid = Grid.of(Bucket("decode", 4, 16, query_len=4, max_blocks=64), LLAMA, H100, 4096)
    assert (grid.tile.rows, grid.queries, grid.tiles) == (16, 4, 7)


@given(st.integers(1, 5000), st.integers(0, 1 << 20), st.sampled_from([16, 32, 64]))
def test_splits_are_a_power_of_two_within_bounds(programs, max_keys, keys):
    splits = splits_for(programs, H100, max_keys, keys)
    assert splits & (splits - 1) == 0
    assert 1 <= splits <= MAX_SPLITS
    assert splits == 1 or splits * keys <= max_keys


@given(st.data())
def test_tiles_cover_every_query_once_and_fit_the_bucket(data):
    news = data.draw(st.lists(st.integers(1, 300), min_size=1, max_size=8))
    rows = [(new + data.draw(st.integers(0, 200)), new) for new in sorted(news)]
    layout = layout_of(rows)
    bucket = Bucket("mixed", len(rows) + 2, layout.num_tokens + data.draw(st.integers(0, 50)), max_blocks=40)
    grid = Grid.of(bucket, LLAMA, H100, 640)
    plan = TritonPlan.blank(grid, PlanSizes(bucket.num_rows, bucket.num_tokens, grid.tiles, 40), CPU)
    used = fill(plan.numbers.numpy(), layout, plan, 16)
    assert used <= plan.starts["end"]
    seen = []
    for row, first in zip(plan.tile_row.tolist(), plan.tile_first.tolist(), strict=True):
        if first == NO_QUERY:
            continue
        seen += [(row, query) for query in range(first, min(first + grid.queries, rows[row][1]))]
    assert sorted(seen) == [(row, query) for row, (_, new) in enumerate(rows) for query in range(new)]
    columns = int(plan.columns[0])
    table = plan.table[: len(rows) * columns].view(len(rows), columns).numpy()
    assert (table == layout.block_table[:, :columns]).all()


def test_a_blank_plan_holds_no_query():
    grid = Grid.of(Bucket("mixed", 4, 64, max_blocks=8), LLAMA, H100, 512)
    plan = TritonPlan.blank(grid, PlanSizes(4, 64, grid.tiles, 8), CPU)
    assert int(plan.num_new.max()) == 0
    assert all(start % 16 == 0 for start in plan.starts.values())


def test_a_step_that_does_not_fit_is_refused_with_both_sizes():
    grid = Grid.of(Bucket("decode", 2, 2, max_blocks=2), LLAMA, H100, 32)
    plan = TritonPlan.blank(grid, PlanSizes(2, 2, grid.tiles, 2), CPU)
    with pytest.raises(ValueError, match=r"holds \(2, 2, 2, 2\) .* needs \(3, 3, 3, 3\)"):
        fill(plan.numbers.numpy(), layout_of([(40, 1)] * 3), plan, 16)


def test_a_plan_keeps_its_addresses(scene, need):
    made = scene(TritonAttention, [(40, 1), (9, 5)], need())
    bucket = made.bucket(max_blocks=8)
    plan = made.backend.blank(bucket)
    before = {name: value.data_ptr() for name, value in vars(plan).items() if isinstance(value, torch.Tensor)}
    for _ in range(2 * GENERATIONS):
        made.backend.plan(made.layout, bucket, plan)
    assert before == {name: value.data_ptr() for name, value in vars(plan).items() if isinstance(value, torch.Tensor)}


def test_staging_buffers_are_used_in_turn_and_kept():
    staging = Staging(CPU)
    places = [staging.take(100).data_ptr() for _ in range(3 * GENERATIONS)]
    assert len(set(places)) == GENERATIONS
    assert places[:GENERATIONS] == places[GENERATIONS : 2 * GENERATIONS]


def test_staging_waits_for_the_last_copy_out_of_a_buffer():
    class Event:
        waited = 0

        def synchronize(self):
            Event.waited += 1

        def record(self):
            pass

    staging = Staging(CPU)
    for buffer in staging._buffers:
        buffer.sent = Event()
    for _ in range(GENERATIONS):
        staging.take(5)
    assert Event.waited == GENERATIONS


@pytest.mark.parametrize("arch", [*ATTENTION, "sm_86", "gfx1100"])
@pytest.mark.parametrize("width", [2, 4])
def test_every_gpu_has_tiles_of_every_size(arch, width):
    for dim in (8, 32, 64, 80, 128, 192, 256):
        tiles = attention_tiles(arch, dim, width)
        for tile in every_tile(tiles):
            assert all(size & (size - 1) == 0 for size in (tile.rows, tile.keys, tile.num_warps))
            assert 16 <= tile.rows <= tiles.wide.rows
        assert tiles.for_rows(1).rows == 16
        assert tiles.for_rows(10_000) == tiles.wide
    assert latent_tiles(arch, width).for_rows(10_000).rows <= 64
    assert set(LATENT) <= set(ATTENTION)


@pytest.mark.parametrize(("dim", "held"), [(1, 16), (16, 16), (80, 128), (192, 256), (576, 1024)])
def test_heads_are_padded_to_what_a_tile_holds(dim, held):
    assert padded(dim) == held
