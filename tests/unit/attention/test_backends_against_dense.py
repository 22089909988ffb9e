"""Both torch backends against the dense oracle in float64, over a cache in which whatever nobody wrote is NaN."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jackfield_attention.flat_blocks import FlatBlockAttention
from jackfield_attention.paged import PagedTorchAttention
from jackfield_platforms.attention import AttentionNeed, Rope
from jackfield_platforms.kv import Paged
from jackfield_platforms.reference import rotary

pytestmark = pytest.mark.parametrize("backend", [PagedTorchAttention, FlatBlockAttention])

PREFILL = [(1, 1), (8, 8), (37, 37), (135, 135)]
DECODE = [(1, 1), (8, 1), (9, 1), (100, 1), (64, 1), (33, 1)]
MIXED = [(40, 1), (7, 1), (150, 13), (24, 24)]
CHUNKED = [(33, 16), (48, 16), (200, 150), (17, 16)]


@pytest.mark.parametrize("rows", [PREFILL, DECODE, MIXED, CHUNKED], ids=["prefill", "decode", "mixed", "chunked"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"query_heads": 2},
        {"kv_heads": 1},
        {"query_heads": 12, "kv_heads": 4},
        {"k_dim": 24, "v_dim": 8},
        {"window": 8},
        {"window": 21},
        {"window": 1},
        {"soft_cap": 1.5},
        {"sinks": True},
        {"sinks": True, "soft_cap": 2.0, "window": 11, "v_dim": 32},
        {"latent": (24, 8)},
        {"latent": (24, 8), "query_heads": 7},
        {"latent": (24, 8), "sinks": True, "soft_cap": 2.0},
    ],
    ids=str,
)
def test_every_kind_of_step_gives_the_oracles_answer(scene, need, backend, rows, changes):
    made = scene(backend, rows, need(**changes))
    made.check(made.run())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("changes", [{}, {"window": 9}, {"soft_cap": 3.0, "sinks": True}, {"latent": (24, 8)}], ids=str)
@pytest.mark.parametrize("query_dtype", ["same", "float32"])
def test_half_width_caches_round_but_do_not_drift(scene, need, backend, dtype, changes, query_dtype):
    query = dtype if query_dtype == "same" else query_dtype
    made = scene(backend, [*DECODE, *MIXED[2:]], need(dtype=dtype, query_dtype=query, **changes))
    made.check(made.run(), tolerance=3 * torch.finfo(getattr(torch, dtype)).eps)


@pytest.mark.parametrize("block_size", [16, 24, 64])
def test_block_sizes_do_not_change_answers(scene, need, backend, block_size):
    made = scene(backend, MIXED, need(window=30), block_size=block_size)
    made.check(made.run())


def test_padding_rows_and_tokens_are_harmless(scene, need, backend):
    made = scene(backend, [(0, 1), (20, 1), (0, 0), (0, 1), (50, 30), (0, 3)], need(), padding=5)
    out = made.run()
    made.check(out)
    assert made.layer.cache.k[0].isnan().any(), "padding is written to the null block"


def test_a_step_of_nothing_but_padding_runs(scene, need, backend):
    made = scene(backend, [(0, 1), (0, 1)], need())
    assert made.run().shape == made.q.shape


def test_a_step_writes_its_own_tokens_and_nothing_else(scene, need, backend):
    made = scene(backend, MIXED, need(), padding=2)
    before = made.layer.cache.k.clone()
    made.run()
    after, touched = made.layer.cache.k, torch.zeros(before.shape[:1] + before.shape[2:3], dtype=torch.bool)
    for row, (kv_len, query_len) in enumerate(MIXED):
        for position in range(kv_len):
            block, offset = int(made.layout.block_table[row, position // 8]), position % 8
            assert torch.equal(after[block, :, offset], made.keys[row][position])
            touched[block, offset] = position >= kv_len - query_len
    touched[0] = True
    same = (after == before) | (after.isnan() & before.isnan())
    assert same.transpose(1, 2)[~touched].all()


def test_latents_are_kept_once(scene, need, backend):
    made = scene(backend, MIXED, need(latent=(24, 8)))
    cache, kv = made.layer.cache, made.need.kv
    assert backend.block_bytes(kv, 8) == 8 * 32 * 4
    assert cache.k.nbytes == len(cache.k) * backend.block_bytes(kv, 8)
    assert cache.v.untyped_storage().data_ptr() == cache.k.untyped_storage().data_ptr()


def test_a_kind_of_cache_that_a_backend_was_not_written_for_is_refused(need, backend):
    class Older(backend):
        kinds = (Paged,)

    assert backend.objection(need(latent=(24, 8))) is None
    assert Older.objection(need(latent=(24, 8))) == "Latent caches are unknown to it; it knows Paged"
    assert Older.objection(need()) is None
    assert "3 query heads" in Older.objection(need(query_heads=3))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_is_applied_to_queries_and_to_written_keys(scene, need, backend, interleaved):
    made = scene(backend, MIXED, need())
    positions = np.concatenate([np.arange(kv_len - new, kv_len) for kv_len, new in MIXED])
    angle = torch.arange(200)[:, None] / 50.0 ** torch.linspace(0, 1, 6)
    rope = Rope(torch.cat((angle.cos(), angle.sin()), dim=1), torch.from_numpy(positions), interleaved)
    bucket = made.bucket()
    plan = made.backend.blank(bucket)
    made.backend.plan(made.layout, bucket, plan)
    out = made.backend.run(made.q, made.k, made.v, made.layer, plan, rope)
    made.q, turned = rotary(made.q, made.k, rope.table, rope.positions, interleaved)
    for row, tokens in enumerate(made.tokens()):
        made.keys[row][len(made.keys[row]) - (tokens.stop - tokens.start) :] = turned[tokens]
    made.check(out)


def test_a_prompt_in_chunks_equals_the_prompt_at_once(scene, need, backend):
    made = scene(backend, [(90, 90)], need(window=40))
    whole = made.run()
    parts = []
    q, k, v = made.q, made.k, made.v
    made.layer.cache.k.fill_(float("nan")), made.layer.cache.v.fill_(float("nan"))
    for start, stop in pairwise((0, 1, 17, 18, 64, 89, 90)):
        made.q, made.k, made.v = q[start:stop], k[start:stop], v[start:stop]
        made.layout.num_tokens = stop - start
        made.layout.kv_len[:], made.layout.num_new[:] = stop, stop - start
        made.layout.query_start[:] = (0, stop - start)
        parts.append(made.run())
    torch.testing.assert_close(torch.cat(parts), whole, rtol=2e-6, atol=2e-6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_layouts_give_the_oracles_answer(scene, need, backend, data):
    decode = data.draw(st.lists(st.integers(0, 90), max_size=6))
    rest = data.draw(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 60)), max_size=4))
    rows = [(kv_len, 1) for kv_len in decode] + [(new + past, new) for new, past in rest]
    if not rows:
        return
    group, kv_heads = data.draw(st.sampled_from([(1, 1), (1, 3), (4, 1), (2, 2)]))
    changes = {
        "kv_heads": kv_heads,
        "query_heads": group * kv_heads,
        "window": data.draw(st.none() | st.integers(1, 70)),
        "soft_cap": data.draw(st.none() | st.floats(0.5, 30)),
        "sinks": data.draw(st.booleans()),
    }
    block_size, seed = data.draw(st.sampled_from([8, 16, 40])), data.draw(st.integers(0, 2**31))
    made = scene(backend, rows, need(**changes), block_size=block_size, seed=seed)
    made.check(made.run())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kv": Paged(2, 16, 16, "int8")}, "cache dtype int8"),
        ({"query_dtype": "float64"}, "query dtype float64"),
        ({"query_heads": 3}, "3 query heads"),
    ],
    ids=["cache", "query", "heads"],
)
def test_what_cannot_be_served_is_refused_with_the_reason(backend, need, change, reason):
    fields = {"kv": Paged(2, 16, 16, "float32"), "query_heads": 4, "scale": 1.0}
    assert backend.rejects(need()) is None
    assert reason in backend.rejects(AttentionNeed(**{**fields, **change}))
