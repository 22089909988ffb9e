"""The Triton backend under the interpreter, against the dense oracle in float64 over a cache that holds NaN."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jackfield_attention.triton.backend import TritonAttention
from jackfield_attention.triton.gpu import Gpu
from jackfield_platforms.attention import Rope
from jackfield_platforms.kv import Paged
from jackfield_platforms.reference import rotary

PREFILL = [(1, 1), (8, 8), (37, 37), (70, 70)]
DECODE = [(1, 1), (8, 1), (9, 1), (100, 1), (64, 1), (33, 1)]
MIXED = [(40, 1), (7, 1), (90, 13), (24, 24)]
CHUNKED = [(33, 16), (100, 50), (17, 16)]
TOLERANCE = {"float32": 2e-6, "float16": 3 * 2**-10, "bfloat16": 3 * 2**-7}
LATENT = {"latent": (24, 8)}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def bounded(made, **changes):
    """A bucket that bounds everything, as captures need."""
    blocks = -(-int(made.layout.kv_len.max()) // made.backend.block_size)
    return made.bucket(**{"max_blocks": blocks + 1, **changes})


def run_poisoned(made, bucket=None, rope=None):
    """`run` into memory that holds NaN, as far as the allocator gives back what was just freed."""
    bucket = bucket or bounded(made)
    plan = made.backend.blank(bucket)
    made.backend.plan(made.layout, bucket, plan)
    torch.full((made.q.shape[0], made.q.shape[1], made.need.kv.v_dim), float("nan"), dtype=made.q.dtype)
    return made.backend.run(made.q, made.k, made.v, made.layer, plan, rope)


@pytest.mark.parametrize("rows", [PREFILL, DECODE, MIXED, CHUNKED], ids=["prefill", "decode", "mixed", "chunked"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"query_heads": 2},
        {"kv_heads": 1, "query_heads": 5},
        {"query_heads": 12, "kv_heads": 4},
        {"k_dim": 24, "v_dim": 8},
        {"window": 1},
        {"window": 21},
        {"soft_cap": 1.5},
        {"sinks": True},
        {"alibi": True},
        {"kv_scales": True},
        {"sinks": True, "soft_cap": 2.0, "window": 11, "v_dim": 32, "alibi": True, "kv_scales": True},
        LATENT,
        {**LATENT, "query_heads": 7, "sinks": True, "soft_cap": 2.0, "kv_scales": True},
    ],
    ids=str,
)
def test_every_kind_of_step_gives_the_oracles_answer(scene, need, rows, changes):
    made = scene(TritonAttention, rows, need(**changes))
    made.check(run_poisoned(made))


@pytest.mark.parametrize("dim", [8, 32, 64, 80, 96, 112, 120, 128, 192, 256])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_head_size_is_served(scene, need, dim, dtype):
    made = scene(TritonAttention, [(50, 1), (40, 9)], need(k_dim=dim, v_dim=dim, dtype=dtype, scale=dim**-0.5))
    made.check(run_poisoned(made), TOLERANCE[dtype])


@pytest.mark.parametrize("heads", [(40, 1), (71, 1), (128, 1), (48, 8)], ids=str)
@pytest.mark.parametrize("changes", [{}, LATENT], ids=["heads", "latents"])
def test_more_heads_than_a_tile_has_lines(scene, need, heads, changes):
    if changes and heads[1] > 1:
        pytest.skip("latents have one kv head")
    made = scene(TritonAttention, [(40, 1), (9, 5)], need(query_heads=heads[0], kv_heads=heads[1], **changes))
    made.check(run_poisoned(made))
    decode = scene(TritonAttention, [(40, 1), (9, 1)], need(query_heads=heads[0], kv_heads=heads[1], **changes))
    decode.check(run_poisoned(decode, bounded(decode, phase="decode")))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("changes", [{}, {"window": 9}, {"soft_cap": 3.0, "sinks": True}, LATENT], ids=str)
@pytest.mark.parametrize("query_dtype", ["same", "float32"])
def test_half_width_caches_round_but_do_not_drift(scene, need, dtype, changes, query_dtype):
    query = dtype if query_dtype == "same" else query_dtype
    made = scene(TritonAttention, [*DECODE, *MIXED[2:]], need(dtype=dtype, query_dtype=query, **changes))
    made.check(run_poisoned(made), TOLERANCE[dtype])


@pytest.mark.parametrize("cached", ["float8_e4m3fn", "float8_e4m3fnuz"])
@pytest.mark.parametrize("query", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("changes", [{}, {"kv_scales": True, "window": 21}, LATENT], ids=str)
def test_caches_of_8_bits_are_read_exactly(scene, need, cached, query, changes):
    made = scene(TritonAttention, [*DECODE[:4], *MIXED[2:]], need(dtype=cached, query_dtype=query, **changes))
    made.check(run_poisoned(made), TOLERANCE[query])


@pytest.mark.parametrize("block_size", [8, 16, 24, 32, 64])
@pytest.mark.parametrize("changes", [{"window": 30}, {}, LATENT], ids=str)
def test_block_sizes_do_not_change_answers(scene, need, block_size, changes):
    made = scene(TritonAttention, MIXED, need(**changes), block_size=block_size)
    made.check(run_poisoned(made))


@pytest.mark.parametrize("changes", [{}, {"sinks": True, "window": 150}, {"alibi": True, "v_dim": 8}, LATENT], ids=str)
def test_keys_cut_in_splits_give_the_same_answers(scene, need, changes):
    made = scene(TritonAttention, [(1, 1), (333, 1), (90, 1), (0, 1), (32, 1)], need(**changes), block_size=16)
    made.backend.gpu = Gpu(made.backend.gpu.arch, 132)
    bucket = bounded(made, phase="decode")
    assert made.backend.blank(bucket).grid.splits == 4
    made.check(run_poisoned(made, bucket))
    mixed = scene(TritonAttention, [(280, 1), (200, 3)], need(**changes), block_size=16)
    mixed.backend.gpu = made.backend.gpu
    assert mixed.backend.blank(bounded(mixed)).grid.splits > 1
    mixed.check(run_poisoned(mixed))


def test_open_buckets_fit_each_step(scene, need):
    made = scene(TritonAttention, MIXED, need(), padding=3)
    bucket = made.bucket()
    assert not TritonAttention.may_capture(bucket)
    plan = made.backend.blank(bucket)
    for _ in range(2):
        made.backend.plan(made.layout, bucket, plan)
        made.check(made.backend.run(made.q, made.k, made.v, made.layer, plan))
    assert TritonAttention.may_capture(bounded(made))


def test_padding_rows_and_tokens_are_harmless(scene, need):
    made = scene(TritonAttention, [(0, 1), (20, 1), (0, 0), (0, 1), (50, 30), (0, 3)], need(), padding=5)
    made.check(run_poisoned(made))
    assert made.layer.cache.k[0].isnan().any(), "padding is written to the null block"


def test_rows_padded_to_one_length(scene, need):
    made = scene(TritonAttention, [(20, 4), (9, 4), (30, 4)], need(window=12), padding=4)
    made.layout.num_new[:] = (4, 2, 1)  # what follows in the row is nobody's
    for row, new in enumerate((4, 2, 1)):
        made.layout.kv_len[row] -= 4 - new
        made.keys[row], made.values[row] = (x[: len(x) - (4 - new)] for x in (made.keys[row], made.values[row]))
    made.layout.num_tokens = 7
    bucket = bounded(made, phase="prefill", num_rows=4, num_tokens=16, query_len=4)
    made.check(run_poisoned(made, bucket))


def test_a_step_of_nothing_but_padding_runs(scene, need):
    made = scene(TritonAttention, [(0, 1), (0, 1)], need())
    assert run_poisoned(made, made.bucket(max_blocks=2)).shape == made.q.shape


@pytest.mark.parametrize("changes", [{}, {"dtype": "float8_e4m3fn", "query_dtype": "float32"}, LATENT], ids=str)
def test_a_step_writes_its_own_tokens_and_nothing_else(scene, need, changes):
    made = scene(TritonAttention, MIXED, need(**changes), padding=2)
    before = made.layer.cache.k.float()
    run_poisoned(made)
    after, touched = made.layer.cache.k.float(), torch.zeros(before.shape[:1] + before.shape[2:3], dtype=torch.bool)
    for row, (kv_len, query_len) in enumerate(MIXED):
        for position in range(kv_len):
            block, offset = int(made.layout.block_table[row, position // 8]), position % 8
            assert torch.equal(after[block, :, offset], made.keys[row][position])
            touched[block, offset] = position >= kv_len - query_len
    touched[0] = True
    same = (after == before) | (after.isnan() & before.isnan())
    assert same.transpose(1, 2)[~touched].all()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary_dim", [16, 12, 4])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rope_is_applied_to_queries_and_to_written_keys(scene, need, interleaved, rotary_dim, dtype):
    made = scene(TritonAttention, MIXED, need(dtype=dtype, query_heads=6), padding=3)
    positions = np.concatenate([*(np.arange(kv_len - new, kv_len) for kv_len, new in MIXED), np.zeros(3, np.int64)])
    angle = torch.arange(200)[:, None] / 50.0 ** torch.linspace(0, 1, rotary_dim // 2)
    rope = Rope(torch.cat((angle.cos(), angle.sin()), dim=1), torch.from_numpy(positions), interleaved)
    out = run_poisoned(made, rope=rope)
    table = rope.table.double()
    q, turned = rotary(made.q.double(), made.k.double(), table, rope.positions, interleaved)
    wanted = made.q.dtype
    made.q = q
    for row, tokens in enumerate(made.tokens()):
        made.keys[row] = made.keys[row].double()
        made.keys[row][len(made.keys[row]) - (tokens.stop - tokens.start) :] = turned[tokens]
    assert out.dtype == wanted
    made.check(out.double(), 2 * TOLERANCE[dtype])


def test_a_fused_projection_is_read_where_it_lies(scene, need):
    made = scene(TritonAttention, MIXED, need())
    together = torch.cat([x.flatten(1) for x in (made.q, made.k, made.v)], dim=1)
    parts = together.split([x[0].numel() for x in (made.q, made.k, made.v)], dim=1)
    made.q, made.k, made.v = (part.unflatten(1, (-1, 16)) for part in parts)
    assert not made.q.is_contiguous()
    made.check(run_poisoned(made))


def test_tokens_leave_for_another_backend(scene, need):
    from jackfield_attention.flat_blocks import FlatBlockAttention

    rows = [(70, 1), (33, 1)]
    source, target = scene(TritonAttention, rows, need()), scene(FlatBlockAttention, rows, need(), block_size=24)
    for row, (length, _) in enumerate(rows):
        places = np.arange(length - 1)
        slots = [
            one.layout.block_table[row, places // size].astype(np.int64) * size + places % size
            for one, size in ((source, 8), (target, 24))
        ]
        tokens = source.backend.export_tokens([source.layer], slots[0])
        target.backend.import_tokens([target.layer], slots[1], tokens)
    target.check(target.run())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_layouts_give_the_oracles_answer(scene, need, data):
    decode = data.draw(st.lists(st.integers(0, 150), max_size=6))
    rest = data.draw(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 60)), max_size=3))
    rows = [(kv_len, 1) for kv_len in decode] + [(new + past, new) for new, past in rest]
    if not rows:
        return
    group, kv_heads = data.draw(st.sampled_from([(1, 1), (1, 3), (4, 1), (2, 2), (3, 2), (7, 1)]))
    dtype = data.draw(st.sampled_from(["float32", "float16", "bfloat16"]))
    latent = kv_heads == 1 and data.draw(st.booleans())
    changes = {
        "kv_heads": kv_heads,
        "query_heads": group * kv_heads,
        "soft_cap": data.draw(st.none() | st.floats(0.5, 30)),
        "sinks": data.draw(st.booleans()),
        "kv_scales": data.draw(st.booleans()),
        "query_dtype": dtype,
        "dtype": data.draw(st.sampled_from([dtype, "float8_e4m3fn", "float8_e4m3fnuz"])),
    }
    if latent:
        changes["latent"] = data.draw(st.sampled_from([(16, 16), (24, 8), (40, 20)]))
    else:
        changes["window"] = data.draw(st.none() | st.integers(1, 70))
        changes["alibi"] = data.draw(st.booleans())
        changes["k_dim"] = data.draw(st.sampled_from([16, 24, 40]))
        changes["v_dim"] = data.draw(st.sampled_from([8, 16, 32]))
    block_size, seed = data.draw(st.sampled_from([8, 16, 40, 64])), data.draw(st.integers(0, 2**31))
    padding = data.draw(st.integers(0, 3))
    made = scene(TritonAttention, rows, need(**changes), block_size=block_size, seed=seed, padding=padding)
    made.backend.gpu = Gpu(made.backend.gpu.arch, data.draw(st.sampled_from([1, 8, 132])))
    longest = max(new for _, new in rows)
    made.check(run_poisoned(made, bounded(made, phase="decode" if longest == 1 else "mixed")), TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": "int8", "query_dtype": "float32"}, "cache dtype int8"),
        ({"query_dtype": "float64"}, "query dtype float64"),
        ({"query_heads": 3}, "3 query heads"),
        ({"k_dim": 320}, "larger than 256"),
        ({"latent": (640, 64)}, "larger than 512"),
        ({**LATENT, "alibi": True}, "latents with ALiBi"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_refused_with_the_reason(need, change, reason):
    assert TritonAttention.objection(need()) is None
    assert reason in TritonAttention.objection(need(**change))


def test_a_device_that_is_no_gpu_is_named(monkeypatch):
    from jackfield_attention.triton import gpu

    assert Gpu.of(torch.device("cpu")).arch == "interpreter"
    monkeypatch.setattr(gpu, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match="Wanted a GPU for Triton's kernels, got cpu"):
        Gpu.of(torch.device("cpu"))


def test_too_many_blocks_are_refused(scene, need):
    made = scene(TritonAttention, [(1, 1)], need())
    with pytest.raises(ValueError, match="too many for int32"):
        made.backend.allocate(1 << 29)


def test_scaled_caches_are_not_exchanged(scene, need):
    made = scene(TritonAttention, [(5, 1)], msgspec.structs.replace(need(), kv_scales=True))
    with pytest.raises(Exception, match="scales of their own"):
        made.backend.export_tokens([made.layer], np.array([8]))


def test_other_backends_refuse_what_they_were_not_written_for(need):
    from jackfield_attention.flat_blocks import FlatBlockAttention
    from jackfield_attention.paged import PagedTorchAttention

    for backend in (FlatBlockAttention, PagedTorchAttention):
        assert backend.objection(need(alibi=True)) == "ALiBi slopes are unknown to it"
        assert backend.objection(need(kv_scales=True)) == "scales of keys and values are unknown to it"
        assert "float8_e4m3fn" in backend.objection(need(dtype="float8_e4m3fn", query_dtype="float32"))
    assert Paged(1, 8, 8, "float8_e4m3fn").kv_heads == 1
