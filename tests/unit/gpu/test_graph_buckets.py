"""Sizes that graphs are captured at: random steps by the kit's own checks, and what becomes of large ones."""

from __future__ import annotations

import numpy as np
import pytest

from jackfield_gpu.buckets import MOST_TOKENS, GraphBuckets, graph_buckets
from jackfield_platforms.bucket import BucketPlan, Limits, RowSizes
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.testing.conformance import bucket_checks
from jackfield_platforms.testing.conformance.subject import Subject
from jackfield_platforms.testing.strict import StrictPlatform

CHECKS = [name for name in dir(bucket_checks) if name.startswith("check_")]
SERVING = Limits(max_rows=256, max_tokens=8192, max_model_len=32768)


class Planned(StrictPlatform):
    """The plan under test on a device that takes any shape."""

    def capabilities(self) -> Capabilities:
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",))

    def buckets(self, limits: Limits) -> BucketPlan:
        return graph_buckets(limits)


def rows(*num_new: int, kv_len: int = 1000) -> RowSizes:
    return RowSizes(np.array(num_new, np.int32), np.full(len(num_new), kv_len, np.int32))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("check", CHECKS)
def test_the_kit_s_checks_hold(check, seed):
    getattr(bucket_checks, check)(Subject("strict", Planned(), ()), seed)


def test_few_sizes_are_captured_and_none_is_large():
    buckets = graph_buckets(SERVING).buckets()
    assert len(buckets) <= 60
    assert max(bucket.num_tokens for bucket in buckets) == MOST_TOKENS
    assert {bucket.max_blocks for bucket in buckets} == {2048}


@pytest.mark.parametrize(("count", "captured"), [(1, 1), (3, 4), (9, 16), (256, 256)])
def test_decode_rows_take_the_next_size(count, captured):
    (placement,) = graph_buckets(SERVING).place(rows(*[1] * count))
    assert placement.captured
    assert (placement.bucket.phase, placement.bucket.num_rows) == ("decode", captured)


def test_a_small_mixture_is_one_captured_launch():
    (placement,) = graph_buckets(SERVING).place(rows(1, 1, 100))
    assert placement.captured
    assert placement.bucket.phase == "mixed"
    assert 102 <= placement.bucket.num_tokens <= 128


def test_a_large_step_is_one_uncaptured_launch_and_no_miss():
    plan = graph_buckets(SERVING)
    for each in (plan, plan.strict(), GraphBuckets.from_json(plan.to_json())):
        (placement,) = each.place(rows(1, 1, 2000))
        assert not placement.captured
        assert not placement.is_miss
        assert placement.bucket.num_tokens == 2002
