"""The static gather against the dense oracle in float64, in rows padded to one length over a poisoned cache."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from jackfield_attention.gathered import GatheredAttention
from jackfield_platforms.attention import AttentionNeed
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Paged

PROMPTS = [(1, 1), (8, 8), (37, 37), (60, 60)]
DECODE = [(1, 1), (8, 1), (9, 1), (100, 1), (0, 0), (33, 1)]
CHUNKS = [(33, 16), (48, 16), (200, 50), (17, 16)]
WANTED = [
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
    {"latent": (24, 8), "query_heads": 7, "sinks": True, "soft_cap": 2.0},
]


def padded(made, query_len, fill=float("nan")):
    """The scene with each row's tokens at a multiple of `query_len`, and `fill` where no row has one."""
    rows, tokens = made.layout.num_rows, made.tokens()
    for name in ("q", "k", "v"):
        packed = getattr(made, name)
        wide = packed.new_full((rows * query_len, *packed.shape[1:]), fill)
        for row, part in enumerate(tokens):
            wide[row * query_len : row * query_len + part.stop - part.start] = packed[part]
        setattr(made, name, wide)
    made.layout.query_start = np.arange(rows + 1, dtype=np.int32) * query_len
    return made


def bucket_of(made, query_len):
    rows, size = made.layout.num_rows, made.backend.block_size
    blocks = -(-int(made.layout.kv_len.max(initial=1)) // size) + 1
    return Bucket("prefill", rows, rows * query_len, query_len, blocks)


def run(made, query_len):
    return padded(made, query_len).run(bucket_of(made, query_len))


@pytest.mark.parametrize(("rows", "query_len"), [(PROMPTS, 64), (DECODE, 1), (CHUNKS, 50)], ids=["new", "one", "more"])
@pytest.mark.parametrize("changes", WANTED, ids=str)
def test_every_kind_of_step_gives_the_oracle_s_answer(scene, need, rows, query_len, changes):
    made = scene(GatheredAttention, rows, need(**changes))
    made.check(run(made, query_len))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("changes", [{}, {"window": 9}, {"soft_cap": 3.0, "sinks": True}, {"latent": (24, 8)}], ids=str)
@pytest.mark.parametrize("query_dtype", ["same", "float32"])
def test_half_width_caches_round_but_do_not_drift(scene, need, dtype, changes, query_dtype):
    query = dtype if query_dtype == "same" else query_dtype
    made = scene(GatheredAttention, CHUNKS, need(dtype=dtype, query_dtype=query, **changes))
    made.check(run(made, 50), tolerance=3 * torch.finfo(getattr(torch, dtype)).eps)


@pytest.mark.parametrize("block_size", [16, 24, 64])
def test_block_sizes_do_not_change_answers(scene, need, block_size):
    made = scene(GatheredAttention, CHUNKS, need(window=30), block_size=block_size)
    made.check(run(made, 64))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_layouts_give_the_oracle_s_answer(scene, need, data):
    rows = data.draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=6))
    rows = [(new + past, new) if new else (0, 0) for new, past in rows]
    group, kv_heads = data.draw(st.sampled_from([(1, 1), (1, 3), (4, 1), (2, 2)]))
    changes = {
        "kv_heads": kv_heads,
        "query_heads": group * kv_heads,
        "window": data.draw(st.none() | st.integers(1, 70)),
        "soft_cap": data.draw(st.none() | st.floats(0.5, 30)),
        "sinks": data.draw(st.booleans()),
    }
    block_size, seed = data.draw(st.sampled_from([8, 16, 40])), data.draw(st.integers(0, 2**31))
    made = scene(GatheredAttention, rows, need(**changes), block_size=block_size, seed=seed)
    made.check(run(made, max(1, *(new for _, new in rows))))


@pytest.mark.parametrize("window", [None, 10])
def test_fifty_layouts_in_one_bucket_fill_the_same_buffers_and_stay_right(scene, need, window):
    rng, bucket = np.random.default_rng(5), Bucket("prefill", 4, 4 * 24, query_len=24, max_blocks=12)
    plan, first = None, None
    for seed in range(50):
        new = rng.integers(0, 25, 4).tolist()
        rows = [(count + int(rng.integers(0, 70)), count) if count else (0, 0) for count in new]
        made = padded(scene(GatheredAttention, rows, need(window=window), seed=seed), 24)
        plan = made.backend.blank(bucket) if plan is None else plan
        places = [(tensor.shape, tensor.dtype, tensor.data_ptr()) for tensor in vars(plan).values()]
        first = first or places
        made.backend.plan(made.layout, bucket, plan)
        assert places == first
        made.check(made.backend.run(made.q, made.k, made.v, made.layer, plan))


def test_a_windowed_bucket_gathers_only_what_its_queries_can_see(scene, need):
    made = scene(GatheredAttention, [(90, 1)], need(window=17))
    assert made.backend.blank(Bucket("decode", 4, 4, max_blocks=1000)).blocks.shape == (4 * 4,)
    prompts = Bucket("prefill", 1, 32, query_len=32, max_blocks=1000)
    assert made.backend.blank(prompts).blocks.shape == (7,), "17 + 31 tokens in blocks of 8 touch at most 7"


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ({"num_rows": 3, "num_tokens": 3 * 50}, r"holds \(3, 50, 26\) .* needs \(4, 50, 25\)"),
        ({"query_len": 40, "num_tokens": 4 * 40}, r"holds \(4, 40, 26\)"),
        ({"max_blocks": 24}, r"holds \(4, 50, 24\)"),
        ({"query_len": None}, "padded to one query length.* serve with flat-blocks"),
        ({"max_blocks": 0}, "a bound on their blocks"),
    ],
    ids=str,
)
def test_a_step_or_a_bucket_that_cannot_be_gathered_is_an_error_that_says_why(scene, need, sizes, why):
    made = padded(scene(GatheredAttention, CHUNKS, need()), 50)
    with pytest.raises(ValueError, match=why):
        made.run(msgspec.structs.replace(bucket_of(made, 50), **sizes))


class EveryResult(TorchDispatchMode):
    """Collects the names of operations whose result holds an infinity or a NaN."""

    def __init__(self):
        super().__init__()
        self.wild = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_floating_point() and not result.isfinite().all():
            self.wild.add(func.overloadpacket.__name__)
        return result


@pytest.mark.parametrize("changes", [{}, {"window": 9, "soft_cap": 2.0, "sinks": True}, {"latent": (24, 8)}], ids=str)
def test_nothing_but_moving_meets_a_number_that_nobody_wrote(scene, need, changes):
    made = padded(scene(GatheredAttention, [*CHUNKS, (0, 0)], need(**changes)), 50, fill=0)
    bucket = bucket_of(made, 50)
    plan = made.backend.blank(bucket)
    made.backend.plan(made.layout, bucket, plan)
    with EveryResult() as seen:
        out = made.backend.run(made.q, made.k, made.v, made.layer, plan)
    moved = {"view", "slice", "index_copy_", "index_select", "transpose", "_unsafe_view", "clone", "reshape"}
    assert "index_select" in seen.wild, "the cache holds NaN"
    assert seen.wild <= moved
    made.check(out)


@pytest.mark.parametrize("changes", [{}, {"window": 9, "soft_cap": 2.0, "sinks": True}], ids=str)
def test_run_compiles_whole_and_once_for_a_bucket(scene, need, changes):
    bucket = Bucket("prefill", 3, 3 * 20, query_len=20, max_blocks=12)
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    made = scene(GatheredAttention, [(30, 5), (9, 9), (50, 20)], need(**changes))
    compiled = torch.compile(made.backend.run, fullgraph=True, dynamic=False, backend=count)
    for seed, rows in enumerate([[(30, 5), (9, 9), (50, 20)], [(20, 20), (0, 0), (71, 1)], [(1, 1), (2, 2), (90, 3)]]):
        fresh = padded(scene(GatheredAttention, rows, need(**changes), seed=seed, num_blocks=40), 20)
        plan = fresh.backend.blank(bucket)
        fresh.backend.plan(fresh.layout, bucket, plan)
        fresh.check(compiled(fresh.q, fresh.k, fresh.v, fresh.layer, plan))
    assert len(graphs) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kv": Paged(2, 16, 16, "int8")}, "cache dtype int8"),
        ({"query_dtype": "float64"}, "query dtype float64"),
        ({"query_heads": 3}, "3 query heads"),
        ({"alibi": True}, "ALiBi slopes are unknown to it"),
        ({"kv_scales": True}, "scales of keys and values are unknown to it"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_refused_with_the_reason(change, reason):
    fields = {"kv": Paged(2, 16, 16, "float32"), "query_heads": 4, "scale": 1.0}
    assert GatheredAttention.objection(AttentionNeed(**fields)) is None
    assert reason in GatheredAttention.objection(AttentionNeed(**{**fields, **change}))
