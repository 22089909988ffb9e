"""Sizes of a TPU: tokens by rows, with a gap that bounds the padding."""

from __future__ import annotations

import numpy as np
import pytest

from jackfield_platforms.bucket import BucketPlan, Limits, RowSizes
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.testing.conformance import bucket_checks
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.strict import StrictPlatform
from jackfield_tpu.buckets import DEFAULT_GAP, VARIABLE, padding_gap, tpu_buckets

CHECKS = [name for name in dir(bucket_checks) if name.startswith("check_")]
SERVING = Limits(max_rows=256, max_tokens=8192, max_model_len=32768, block_size=128)


class Planned(StrictPlatform):
    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",), static_shapes=True)

    def buckets(self, limits: Limits) -> BucketPlan:
        return tpu_buckets(limits, DEFAULT_GAP)


def tokens(gap):
    return sorted(bucket.num_tokens for bucket in tpu_buckets(SERVING, gap).buckets() if bucket.phase == "mixed")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("check", CHECKS)
def test_the_kit_s_checks_hold(check, seed):
    getattr(bucket_checks, check)(Subject("strict", Planned(), ()), seed)


def test_sizes_double_up_to_the_gap_and_go_on_by_it():
    assert tokens(512)[:8] == [16, 32, 64, 128, 256, 512, 1024, 1536]
    assert tokens(512)[-1] == 8192
    assert tokens(2048) == [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 6144, 8192]


def test_without_a_gap_they_double_all_the_way():
    assert tokens(0) == [16 << i for i in range(10)]


@pytest.mark.parametrize("gap", [128, 512, 1000])
def test_no_step_is_padded_by_more_than_the_gap(gap):
    plan, rng = tpu_buckets(SERVING, gap), np.random.default_rng(gap)
    for new in rng.integers(gap, 8192, 100).tolist():
        need = RowSizes(np.array([new], np.int32), np.array([new], np.int32))
        (placement,) = plan.place(need)
        assert 0 <= placement.bucket.num_tokens - new < gap


def test_rows_have_all_their_blocks_and_pay_next_to_nothing_for_them():
    plan = tpu_buckets(SERVING, 512)
    assert {bucket.max_blocks for bucket in plan.buckets()} == {256}
    largest = plan.buckets()[0]
    assert 0 < plan.cost(largest) - (256 + largest.num_tokens) < 1


def test_a_mixture_is_one_launch():
    rows = RowSizes(np.array([1] * 20 + [400], np.int32), np.array([3000] * 20 + [400], np.int32))
    (placement,) = tpu_buckets(SERVING, 512).place(rows)
    assert (placement.bucket.phase, placement.bucket.num_tokens) == ("mixed", 512)


def test_the_gap_is_the_user_s():
    assert padding_gap({}) == padding_gap({VARIABLE: " "}) == DEFAULT_GAP
    assert padding_gap({VARIABLE: "64"}) == 64
    with pytest.raises(ValueError, match=f"{VARIABLE} is a number of tokens"):
        padding_gap({VARIABLE: "many"})
