"""Softmax over the blocks of each row, in torch and by the vendor's kernels, against float64."""

from __future__ import annotations

import pytest
import torch

from jackfield_hpu.block_softmax import LOWEST, FlatScores, block_softmax
from jackfield_hpu.fused_softmax import fused_block_softmax, missing

ENTRIES, ROWS, KV_HEADS, GROUP, QUERIES, BLOCK = 11, 4, 2, 3, 2, 8


def drawn(seed, scale=1.0):
    """Blocks of rows 0, 1 and 3 in any order, of row 2 none, two of nobody's; some keys hidden, never a whole row."""
    make = torch.Generator().manual_seed(seed)
    groups = torch.tensor([0, 1, 3, 0, -1, 3, 0, 1, -1, 3, 0], dtype=torch.int32)
    scores = torch.randn(ENTRIES, KV_HEADS, GROUP, QUERIES, BLOCK, generator=make) * scale
    hidden = torch.rand(ENTRIES, 1, 1, QUERIES, BLOCK, generator=make) < 0.4
    hidden[[0, 1, 2]] = False  # one block of each row is in sight
    hidden[3] = True  # and one is hidden as a whole
    mapping = (groups[:, None] == torch.arange(ROWS)).float()
    return FlatScores(torch.where(hidden, 0.0, scores), torch.where(hidden, LOWEST, 0.0), groups, mapping)


def expected(flat, sinks):
    """Row by row: softmax over all keys of its blocks, a sink beside them."""
    scores = flat.scores.double().masked_fill(flat.bias == LOWEST, -torch.inf)
    weights = torch.zeros_like(scores)
    for row in range(ROWS):
        mine = flat.groups == row
        keys = scores[mine].movedim(0, -2).flatten(-2)  # [kv_heads, group, queries, blocks * block]
        if mine.any():
            sink = torch.full_like(keys[..., :1], -torch.inf)
            if sinks is not None:
                sink = sinks.double().view(KV_HEADS, GROUP, 1, 1).expand_as(sink)
            own = torch.cat((keys, sink), -1).softmax(-1)[..., :-1]
            weights[mine] = own.unflatten(-1, (-1, BLOCK)).movedim(-2, 0)
    return weights


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_weights_of_a_row_s_blocks_sum_to_one(seed, with_sinks, scale):
    flat = drawn(seed, scale)
    sinks = torch.randn(KV_HEADS * GROUP, generator=torch.Generator().manual_seed(seed)) if with_sinks else None
    weights = block_softmax(flat, sinks)
    assert weights.isfinite().all()
    owned = flat.groups >= 0
    torch.testing.assert_close(weights[owned].double(), expected(flat, sinks)[owned], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_vendor_s_kernels_give_the_same(bridge, seed):
    flat = drawn(seed)
    weights = fused_block_softmax(flat, None)
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.double(), expected(flat, None), rtol=1e-5, atol=1e-6)


def test_kernels_that_are_not_there_are_named():
    assert missing() == "torch.ops.hpu.block_softmax is not registered by the installed software"
