"""What a step of the paged backend makes and reads: counted, operation by operation, in bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jackfield_attention.decode_spans import group_bounds
from jackfield_attention.paged import PagedTorchAttention
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.kv import Latent, Paged, Windowed


class Bytes(TorchDispatchMode):
    """Sums the bytes that every operation writes: new results, out= and in-place targets; views are free."""

    def __init__(self):
        super().__init__()
        self.total = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = out = func(*args, **(kwargs or {}))
        if not any(kind.alias_info and not kind.alias_info.is_write for kind in func._schema.returns):
            if func is torch.ops.aten.index_copy_.default:
                out = args[-1]  # it writes its source, not the whole of its target
            made = [x.numel() * x.element_size() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
            self.total += sum(made)
            self.largest = max([self.largest, *made])
        return result


def count(scene, rows, kv, heads):
    made = scene(PagedTorchAttention, rows, AttentionNeed(kv, heads, 0.2), block_size=16)
    with Bytes() as counted:
        out = made.run()
    made.check(out)
    return counted


KV = Paged(2, 64, 64, "float32")
A_TOKEN = 2 * 2 * 64 * 4  # bytes of its keys and values


def test_one_long_row_among_short_ones_costs_the_sum_and_not_the_rectangle(scene):
    short = count(scene, [(16, 1)] * 63, KV, 4)
    long = count(scene, [(2048, 1)], KV, 4)
    both = count(scene, [(2048, 1), *[(16, 1)] * 63], KV, 4)
    assert both.total < 1.1 * (short.total + long.total)
    assert both.total < 2 * (2048 + 63 * 16) * A_TOKEN
    assert both.largest < 2048 * A_TOKEN, "no tensor holds more than the longest row"
    assert both.total < 64 * 2048 * A_TOKEN / 20, "a padded batch would take this"


def test_cost_doubles_with_the_lengths(scene):
    once = count(scene, [(n, 1) for n in range(100, 132)], KV, 4).total
    twice = count(scene, [(2 * n, 1) for n in range(100, 132)], KV, 4).total
    assert 1.5 * once < twice < 2.1 * once


def test_a_window_bounds_the_cost_of_a_long_row(scene):
    windowed = Windowed(2, 64, 64, "float32", 64)
    near, far = (count(scene, [(n, 1)] * 8, windowed, 4).total for n in (128, 1024))
    assert far < 1.1 * near


def test_a_long_prompt_makes_no_square_of_scores(scene):
    made = count(scene, [(1500, 1500)], Paged(1, 16, 16, "float32"), 2)
    assert made.largest < 1500 * 1500 * 2 * 4 / 4


def test_the_listed_values_are_those_of_the_rows_with_an_eighth_of_padding_at_most(scene, need):
    lengths = [2048, *range(100, 160), 1, 1]
    made = scene(PagedTorchAttention, [(n, 1) for n in lengths], need())
    plan = made.backend.blank(made.bucket())
    made.backend.plan(made.layout, made.bucket(), plan)
    assert sum(lengths) * 4 <= plan.decode.values.numel() <= 1.125 * sum(lengths) * 4


def test_latents_are_gathered_once_whatever_the_number_of_heads(scene):
    few, many = (count(scene, [(2048, 1)], Latent(64, 16, "float32"), heads).total for heads in (1, 33))
    assert few < 2.1 * 2048 * 80 * 4, "the scratch is made, and filled once"
    assert many - few < 32 * 2048 * 4 * 6, "what a head adds is its scores and weights, not its keys"


@pytest.mark.parametrize("max_keys", [64, 500, 10_000])
def test_groups_cover_all_rows_within_their_limits(max_keys):
    lengths = np.sort(np.random.default_rng(max_keys).integers(1, 300, 200))[::-1]
    bounds = group_bounds(lengths, max_keys)
    assert [row for start, stop in bounds for row in range(start, stop)] == list(range(200))
    for start, stop in bounds:
        padded = lengths[start] * (stop - start)
        assert stop - start == 1 or (padded <= max_keys and padded <= 1.125 * lengths[start:stop].sum())
