"""The CPU's own attention against the float64 oracle, over a cache in which whatever nobody wrote is NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import native_levels
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jackfield_attention.dense import dense_attention
from jackfield_cpu.native_attention import NativeAttention, NativePlan
from jackfield_platforms.attention import AttentionNeed, LayerKV, Layout, Rope
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.kv import Latent, Paged, Windowed
from jackfield_platforms.kv_tokens import KVHeader, KVTokens
from jackfield_platforms.linear import torch_dtype
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_platforms.testing.conformance import oracle
from jackfield_platforms.testing.conformance.mismatch import near
from jackfield_platforms.testing.conformance.tolerances import tolerance

NAN = float("nan")


@pytest.fixture(params=native_levels.levels())
def serve(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`serve(threads)`: attention runs on the kernels of each instruction set, with so many threads; 2 until told."""

    def told(threads: int) -> None:
        found = native_levels.kernels_of(request.param, threads)
        monkeypatch.setattr("jackfield_cpu.native_attention.kernels", lambda: found)

    told(2)
    return told


def a_need(dtype: str = "float32", **changes: object) -> AttentionNeed:
    """Four query heads on two kv heads of 16, unless changed."""
    sizes = {"kv_heads": 2, "k_dim": 16, "v_dim": 16}
    sizes |= {name: changes.pop(name) for name in tuple(changes) if name in sizes}
    window, heads = changes.pop("window", None), changes.pop("query_heads", 4)
    kv = Paged(**sizes, dtype=dtype) if window is None else Windowed(**sizes, dtype=dtype, window=window)
    return AttentionNeed(kv, heads, **{"scale": 0.3, "query_dtype": dtype, **changes})


@dataclass
class Scene:
    """Rows of (kv_len, new tokens): what came before is imported, what is new is in `q`, `k` and `v`."""

    backend: NativeAttention
    layer: LayerKV
    layout: Layout
    q: Tensor
    k: Tensor
    v: Tensor
    keys: list[Tensor]  # of all tokens of each row
    values: list[Tensor]
    slots: list[np.ndarray]

    def plan(self) -> NativePlan:
        bucket = Bucket("mixed", self.layout.num_rows, len(self.q))
        plan = self.backend.blank(bucket)
        self.backend.plan(self.layout, bucket, plan)
        return plan

    def run(self) -> Tensor:
        return self.backend.run(self.q, self.k, self.v, self.layer, self.plan())

    def check(self, out: Tensor) -> None:
        """Every element of every row's answers."""
        need, layout = self.backend.need, self.layout
        assert out.dtype == self.q.dtype
        for row, (start, new) in enumerate(zip(layout.query_start.tolist(), layout.num_new.tolist(), strict=False)):
            q, k, v = self.q[start : start + new].double(), self.keys[row].double(), self.values[row].double()
            sinks = None if self.layer.sinks is None else self.layer.sinks.double()
            expected = dense_attention(q, k, v, need, sinks)
            near(out[start : start + new], expected, tolerance(need.kv.dtype), f"row {row} of {layout.kv_len.tolist()}")

    def held(self) -> dict[str, Tensor]:
        """All that the cache holds, by slot."""
        pages, _, page_blocks = self.layer.cache.k.shape[:3]
        slots = np.arange(pages * page_blocks * self.backend.block_size)
        return {name: x[0] for name, x in self.backend.export_tokens([self.layer], slots).tensors.items()}


def a_scene(
    rows: list[tuple[int, int]], need: AttentionNeed, *, block_size: int = 16, seed: int = 0, padding: int = 3
) -> Scene:
    """Blocks are shuffled, entries past a row's own are stale, and `padding` tokens behind the last one hold NaN."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    kv, dtype = need.kv, torch_dtype(need.kv.dtype)
    ops = resolve(OpTable(), OpSpec(need.query_dtype))
    backend = NativeAttention(need, block_size, device=torch.device("cpu"), ops=ops)
    counts = [-(-kv_len // block_size) for kv_len, _ in rows]
    num_blocks = sum(counts) + 4
    backend.page_bytes = int(rng.choice([1, 3 * backend.block_bytes(kv, block_size), 2 << 20]))
    cache = backend.allocate(num_blocks)
    cache.k.fill_(NAN), cache.v.fill_(NAN)
    ids = rng.permutation(np.arange(1, num_blocks)).astype(np.int32)
    table = rng.choice(ids, (len(rows), max(counts) + 2)).astype(np.int32)
    sinks = torch.randn(need.query_heads, generator=generator) if need.sinks else None
    layer = LayerKV(cache, sinks)
    keys = [torch.randn(n, kv.kv_heads, kv.k_dim, generator=generator).to(dtype) for n, _ in rows]
    values = [torch.randn(n, kv.kv_heads, kv.v_dim, generator=generator).to(dtype) for n, _ in rows]
    slots = []
    for row, (kv_len, new) in enumerate(rows):
        table[row, : counts[row]], ids = ids[: counts[row]], ids[counts[row] :]
        places = np.arange(kv_len)
        slots.append(table[row, places // block_size].astype(np.int64) * block_size + places % block_size)
        past = kv_len - new
        tensors = {"k": keys[row][None, :past], "v": values[row][None, :past]}
        backend.import_tokens([layer], slots[row][:past], KVTokens(KVHeader(kv, 1, past), tensors))
    if isinstance(kv, Windowed):  # blocks that no query sees are somebody else's by now
        for row, (kv_len, new) in enumerate(rows):
            gone = max(0, kv_len - new - kv.window + 1) // block_size
            table[row, :gone] = num_blocks + 1000

    def fresh(whole: list[Tensor]) -> Tensor:
        new = [x[len(x) - count :] for x, (_, count) in zip(whole, rows, strict=True)]
        return torch.cat([*new, torch.full((padding, *whole[0].shape[1:]), NAN, dtype=dtype)])

    lengths = np.array(rows, np.int32)
    num_tokens = int(lengths[:, 1].sum())
    q = torch.randn(num_tokens + padding, need.query_heads, kv.k_dim, generator=generator).to(dtype)
    q[num_tokens:] = NAN
    start = np.concatenate(([0], np.cumsum(lengths[:, 1]))).astype(np.int32)
    layout = Layout(len(rows), num_tokens, start, lengths[:, 1].copy(), lengths[:, 0].copy(), table)
    return Scene(backend, layer, layout, q, fresh(keys), fresh(values), keys, values, slots)


a_row = st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.one_of(st.just(1), st.integers(1, n))))
changes = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["float32", "bfloat16"])},
    optional={
        "query_heads": st.sampled_from([2, 6, 14, 34]),
        "k_dim": st.sampled_from([2, 18, 64]),
        "v_dim": st.sampled_from([48, 80]),
        "window": st.integers(1, 90),
        "soft_cap": st.sampled_from([1.5, 30.0]),
        "sinks": st.just(True),
    },
)


@given(
    rows=st.lists(a_row, min_size=1, max_size=6),
    need=changes,
    size=st.sampled_from([16, 32, 128]),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_any_step_gives_the_oracles_answer_and_writes_its_own_tokens_alone(rows, need, size, seed):
    scene = a_scene(rows, a_need(**need), block_size=size, seed=seed)
    before = scene.held()
    scene.check(scene.run())
    after = scene.held()
    for row, (kv_len, new) in enumerate(rows):
        own = scene.slots[row][kv_len - new :]
        before["k"][own], before["v"][own] = scene.keys[row][kv_len - new :], scene.values[row][kv_len - new :]
    for name, whole in before.items():
        assert torch.equal(whole.nan_to_num(-7), after[name].nan_to_num(-7)), name


MIXED = [(40, 1), (7, 1), (150, 13), (24, 24), (200, 131), (64, 64)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("more", [{}, {"window": 21}, {"sinks": True, "soft_cap": 2.0, "window": 11, "v_dim": 32}])
@pytest.mark.parametrize("heads", [(2, 2), (8, 2), (26, 2), (7, 1)])
def test_every_instruction_set_and_number_of_heads(serve, dtype, more, heads):
    scene = a_scene(MIXED, a_need(dtype, query_heads=heads[0], kv_heads=heads[1], **more))
    scene.check(scene.run())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [[(8192, 1)], [(8190, 9), (300, 1)]], ids=str)
def test_one_long_sequence_is_shared_by_all_threads(serve, threads, rows, dtype):
    serve(threads)
    scene = a_scene(rows, a_need(dtype, sinks=True))
    plan = scene.plan()
    assert (plan.step.groups > 0) == (threads > 1), "one thread has nobody to share with"
    for _ in range(3):  # what is kept between calls is not stale in the second
        scene.check(scene.backend.run(scene.q, scene.k, scene.v, scene.layer, plan))


def hold_in_common(scene: Scene, row: int, other: int, blocks: int) -> None:
    """The first blocks of `row` become those of `other`, as the prefix cache has it."""
    keys = blocks * scene.backend.block_size
    scene.layout.block_table[row, :blocks] = scene.layout.block_table[other, :blocks]
    for numbers in (scene.keys, scene.values):
        numbers[row][:keys] = numbers[other][:keys]


decoding = st.lists(st.tuples(st.integers(1, 600), st.integers(0, 40)), min_size=2, max_size=9)


@given(
    rows=decoding,
    prompt=st.sampled_from([None, 0, 1, 3]),
    need=changes,
    size=st.sampled_from([16, 32, 128]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_keys_that_rows_have_in_common_are_read_for_all_of_them(rows, prompt, need, size, threads, seed):
    lengths = [(kv_len, 1) for kv_len, _ in rows]
    if prompt is not None:
        lengths.insert(min(prompt, len(lengths)), (150, 40))
    scene = a_scene(lengths, a_need(**need), block_size=size, seed=seed)
    if isinstance(scene.backend.need.kv, Paged):
        for row, (_, blocks) in zip(range(1, len(lengths)), rows[1:], strict=False):
            past = min(kv_len - new for kv_len, new in lengths[row - 1 : row + 1])
            hold_in_common(scene, row, row - 1, min(blocks, past // size))
    scene.backend.library.jackfield_set_threads(threads)
    plan = scene.plan()
    for _ in range(2):  # what is kept between calls is not stale in the second
        scene.check(scene.backend.run(scene.q, scene.k, scene.v, scene.layer, plan))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("common", "rows", "groups"),
    [([1024] * 32, 32, 32), ([1024] * 70, 70, 70), ([128, 128, 0, 96, 300, 304], 6, 4), ([96] * 9, 9, 0)],
    ids=["one run", "runs of at most 48", "two runs of two", "too short"],
)
def test_runs_of_rows_with_keys_in_common(serve, dtype, common, rows, groups):
    """Of one thread nothing is split: a group is a row whose first keys are read with others'."""
    serve(1)
    scene = a_scene([(1100 + 3 * row, 1) for row in range(rows)], a_need(dtype))
    for row in range(1, rows):
        if common[row] and common[row - 1]:
            hold_in_common(scene, row, row - 1, min(common[row], common[row - 1]) // 16)
    plan = scene.plan()
    assert plan.step.groups == groups
    scene.check(scene.backend.run(scene.q, scene.k, scene.v, scene.layer, plan))


def test_threads_may_change_between_plan_and_run(serve):
    serve(4)
    scene = a_scene([(8192, 1), (70, 70)], a_need())
    plan = scene.plan()
    scene.backend.library.jackfield_set_threads(1)
    out = scene.backend.run(scene.q, scene.k, scene.v, scene.layer, plan)
    scene.backend.library.jackfield_set_threads(4)
    scene.check(out)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary_dim", [64, 24, 6])
def test_queries_and_written_keys_are_rotated(serve, dtype, interleaved, rotary_dim):
    scene = a_scene([(45, 45), (1, 1), (20, 20)], a_need(dtype, k_dim=64))
    angle = torch.rand(60, rotary_dim // 2) * 6
    table = torch.cat((angle.cos(), angle.sin()), dim=1)
    new = scene.layout.num_new.tolist()
    positions = torch.cat([torch.randperm(60)[:n] for n in new] + [torch.zeros(len(scene.q) - sum(new)).long()])
    rope = Rope(table, positions, interleaved)
    out = scene.backend.run(scene.q, scene.k, scene.v, scene.layer, scene.plan(), rope)
    scene.q = oracle.rotate(scene.q.double(), table, positions, interleaved).to(scene.q.dtype)
    turned = oracle.rotate(scene.k.double(), table, positions, interleaved)
    for row, (start, count) in enumerate(zip(scene.layout.query_start.tolist(), new, strict=False)):
        scene.keys[row] = turned[start : start + count].to(scene.k.dtype)
        eps = torch.finfo(scene.k.dtype).eps
        near(scene.held()["k"][scene.slots[row]], turned[start : start + count], eps, "keys in the cache")
    scene.check(out)


def test_heads_may_be_parts_of_one_projection():
    scene = a_scene(MIXED, a_need("bfloat16", query_heads=6))
    whole = torch.cat((scene.q, scene.k, scene.v), dim=1)
    scene.q, scene.k, scene.v = whole.split((6, 2, 2), dim=1)
    assert not scene.k.is_contiguous()
    scene.check(scene.run())
    scene.q, scene.k, scene.v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (scene.q, scene.k, scene.v))
    assert scene.q.stride(2) != 1
    scene.check(scene.run())


def test_rows_without_tokens_are_passed_over():
    scene = a_scene([(20, 1), (50, 30)], a_need())
    layout = scene.layout
    scene.layout = Layout(
        num_rows=4,
        num_tokens=31,
        query_start=np.array([0, 0, 1, 31, 31], np.int32),
        num_new=np.array([0, 1, 30, 0], np.int32),
        kv_len=np.array([0, 20, 50, 0], np.int32),
        block_table=np.stack((layout.block_table[0] * 0, *layout.block_table, layout.block_table[0] * 0)),
    )
    out = scene.run()
    scene.layout = layout
    scene.check(out)
    none = Layout(1, 0, *(np.zeros(n, np.int32) for n in (2, 1, 1)), np.zeros((1, 1), np.int32))
    scene.layout = none
    assert scene.run().shape == scene.q.shape


def test_a_plan_is_filled_again_for_larger_and_for_smaller_steps():
    need = a_need()
    plan = a_scene([(1, 1)], need).plan()
    for rows in ([(16_000, 1)], [(900, 900)] * 3, [(5, 2)]):
        scene = a_scene(rows, need)
        scene.backend.plan(scene.layout, Bucket("mixed", len(rows), len(scene.q)), plan)
        scene.check(scene.backend.run(scene.q, scene.k, scene.v, scene.layer, plan))


def test_a_row_longer_than_its_blocks_is_an_error():
    scene = a_scene([(40, 1)], a_need())
    scene.layout.block_table = scene.layout.block_table[:, :2]
    with pytest.raises(ValueError, match="kv_len must be at most 32"):
        scene.plan()


def test_nan_of_a_query_reaches_its_own_answer_and_no_other():
    scene = a_scene([(30, 30), (9, 1)], a_need())
    scene.q[4, 1, 0] = NAN
    out = scene.run()
    assert out[4, 1].isnan().all()
    assert not out[:31].isnan().flatten(1).any(1)[torch.arange(31) != 4].any()


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (a_need("float16"), "computes in float32 or bfloat16, not float16"),
        (a_need("bfloat16", query_dtype="float32"), "query dtype float32 is not the cache's, bfloat16"),
        (a_need(query_heads=3), "3 query heads are no multiple of 2 kv heads"),
        (a_need(k_dim=15), "k_dim 15 is odd"),
        (a_need(v_dim=24), "v_dim 24 is no multiple of 16"),
        (AttentionNeed(Latent(16, 8, "float32"), 4, 1.0), "Latent caches are unknown to it; it knows Paged, Windowed"),
        (a_need(window=5, sinks=True, soft_cap=1.0), None),
    ],
    ids=str,
)
def test_what_it_refuses_and_why(need, reason):
    assert NativeAttention.objection(need) == reason


def test_without_kernels_it_says_why_there_are_none(monkeypatch):
    monkeypatch.setattr("jackfield_cpu.native_attention.kernels", lambda: "no compiler was there")
    assert NativeAttention.rejects(a_need()) == "no compiler was there"


def test_blocks_of_one_head_are_neighbours_in_memory() -> None:
    need = AttentionNeed(Paged(4, 32, 64, "bfloat16"), 8, 1.0, query_dtype="bfloat16")
    made = NativeAttention(need, 16, device=torch.device("cpu"), ops=resolve(OpTable(), OpSpec("bfloat16")))
    assert made.allocate(3).k.shape[:3] == made.allocate(3).v.shape[:3] == (1, 4, 3)
    block_bytes = 4 * 16 * 32 * 2
    many = made.allocate(3 * (2 << 20) // block_bytes - 1)
    assert many.k.shape[:3] == (3, 4, (2 << 20) // block_bytes), "a page of blocks fills a large page"
