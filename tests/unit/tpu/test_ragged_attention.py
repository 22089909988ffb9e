"""Ragged paged attention by the kit's checks, over a stand-in for the kernel; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_kernel import install

from jackfield_platforms.attention import AttentionNeed, LayerKV, Layout
from jackfield_platforms.bucket import Bucket, BucketPlan, Limits
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.kv import Latent, Paged, Windowed
from jackfield_platforms.ops import OpSpec, OpTable, resolve
from jackfield_platforms.testing.conformance import attention_checks, plan_checks, transfer_checks
from jackfield_platforms.testing.conformance.attention_cases import attention
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.strict import StrictPlatform
from jackfield_tpu import ragged_attention
from jackfield_tpu.ragged_attention import RaggedPagedAttention, off_the_chip, unserved

CHECKS = [
    attention_checks.check_prefill,
    attention_checks.check_decode,
    attention_checks.check_mixed,
    attention_checks.check_padding_reaches_nobody,
    attention_checks.check_a_step_writes_its_own_tokens_alone,
    attention_checks.check_rope_in_halves,
    transfer_checks.check_exported_tokens_are_what_was_written,
]


class OnChip(RaggedPagedAttention):
    """As if there were a chip; the blocks are few and small."""

    block_sizes = (16, 32)

    @classmethod
    def rejects(cls, need):
        return unserved(need)


class Host(StrictPlatform):
    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",))

    def buckets(self, limits: Limits) -> BucketPlan:
        return BucketPlan()


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def subject():
    return Subject("strict", Host(), (OnChip,))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kit_s_checks_hold(check, subject):
    cases = list(attention(subject))
    kinds = {word for name, _ in cases for word in name.split("-")}
    assert kinds >= {"plain", "mqa", "window_8", "soft_cap"}
    for _, case in cases:
        check(case, 0)


def test_rows_that_are_padded_inside_are_packed_for_the_kernel(subject):
    cases = list(plan_checks.row_padded(subject))
    assert cases
    for _, case in cases:
        plan_checks.check_rows_padded_to_one_length(case, 0)


def test_head_sizes_are_padded_in_the_cache_and_counted(subject):
    kv = Paged(2, 80, 48, "float32")
    backend = OnChip(
        AttentionNeed(kv, 4, 0.1), 16, device=torch.device("cpu"), ops=resolve(OpTable(), OpSpec("float32"))
    )
    cache = backend.allocate(3)
    assert cache.pages.shape == (3, 16, 4, 128)
    assert 3 * OnChip.block_bytes(kv, 16) == cache.pages.nbytes
    views = cache.token_views()
    assert (views["k"].shape, views["v"].shape) == ((3, 16, 2, 80), (3, 16, 2, 48))


def test_a_launch_without_a_row_gives_the_kernel_one_to_read():
    kv, bucket = Paged(2, 128, 128, "float32"), Bucket("mixed", num_rows=4, num_tokens=16, max_blocks=2)
    backend = OnChip(
        AttentionNeed(kv, 4, 0.1), 16, device=torch.device("cpu"), ops=resolve(OpTable(), OpSpec("float32"))
    )
    plan, none = backend.blank(bucket), np.zeros(0, np.int32)
    backend.plan(Layout(0, 0, np.zeros(5, np.int32), none, none, np.zeros((4, 2), np.int32)), bucket, plan)
    q, kv_new = torch.full((16, 4, 128), float("nan")), torch.full((16, 2, 128), float("nan"))
    layer = LayerKV(backend.allocate(3))
    assert backend.run(q, kv_new, kv_new, layer, plan).shape == (16, 4, 128)
    assert not layer.cache.pages.isnan().any(), "padding is never written as it is"


def test_a_step_that_does_not_fit_its_bucket_is_an_error_with_both_sizes():
    kv, bucket = Paged(2, 128, 128, "float32"), Bucket("decode", num_rows=1, num_tokens=1, query_len=1, max_blocks=1)
    backend = OnChip(
        AttentionNeed(kv, 4, 0.1), 16, device=torch.device("cpu"), ops=resolve(OpTable(), OpSpec("float32"))
    )
    layout = Layout(1, 1, *(np.array(x, np.int32) for x in ([0, 1], [1], [17], [[1, 2]])))
    with pytest.raises(ValueError, match=r"holds \(1, 1, 1\) .* needs \(1, 1, 2\)"):
        backend.plan(layout, bucket, backend.blank(bucket))


@pytest.mark.parametrize(
    ("need", "why"),
    [
        (AttentionNeed(Paged(2, 64, 64, "float16"), 4, 0.1, query_dtype="float16"), "cache dtype float16"),
        (AttentionNeed(Paged(2, 64, 64, "bfloat16"), 4, 0.1), "queries are float32 and the cache is bfloat16"),
        (AttentionNeed(Paged(2, 64, 64, "float32"), 4, 0.1, sinks=True), "no attention sinks"),
        (AttentionNeed(Paged(2, 256, 64, "float32"), 4, 0.1), "heads of 256 numbers are wider than the 128"),
        (AttentionNeed(Paged(3, 64, 64, "float32"), 6, 0.1), "3 kv heads of float32 do not fill"),
        (AttentionNeed(Paged(3, 64, 64, "bfloat16"), 6, 0.1, query_dtype="bfloat16"), "3 kv heads of bfloat16"),
        (AttentionNeed(Latent(64, 16, "float32"), 4, 0.1), "Latent caches are unknown"),
        (AttentionNeed(Paged(2, 64, 64, "float32"), 4, 0.1, alibi=True), "ALiBi slopes are unknown"),
    ],
)
def test_what_the_kernel_does_not_know_is_refused(need, why):
    assert why in OnChip.objection(need)


@pytest.mark.parametrize("kv_heads", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_usual_heads_are_served(kv_heads, dtype):
    for kv in (Paged(kv_heads, 128, 128, dtype), Windowed(kv_heads, 64, 64, dtype, window=9)):
        assert OnChip.objection(AttentionNeed(kv, 4 * kv_heads, 0.1, query_dtype=dtype)) is None


def test_off_the_chip_the_kernel_refuses_with_the_reason(monkeypatch):
    need = AttentionNeed(Paged(2, 128, 128, "float32"), 4, 0.1)
    for missing in ("torch_xla", "jax"):
        monkeypatch.setattr(ragged_attention, "is_installed", lambda module, missing=missing: module != missing)
        assert "is not installed" in RaggedPagedAttention.objection(need)


def test_only_a_tpu_is_the_chip(monkeypatch):
    monkeypatch.setattr(ragged_attention, "is_installed", lambda module: True)
    import sys
    from types import ModuleType, SimpleNamespace

    package = ModuleType("torch_xla")
    monkeypatch.setitem(sys.modules, "torch_xla", package)
    for kind, refused in (("CPU", True), ("TPU", False)):
        package.runtime = SimpleNamespace(device_type=lambda kind=kind: kind)
        assert (off_the_chip() is not None) == refused
