"""Sizes of Gaudi's programs: which there are, and that every step has one."""

from __future__ import annotations

import inspect
from itertools import groupby

import pytest

from jackfield_hpu.buckets import LADDERS, SWITCH, hpu_buckets
from jackfield_hpu.emulated import HpuStrict
from jackfield_platforms.bucket import Bucket, Limits
from jackfield_platforms.testing.conformance import bucket_checks
from jackfield_platforms.testing.conformance.subject import Subject

LIMITS = Limits(max_rows=8, max_tokens=512, max_model_len=1024, block_size=128)
CHECKS = [getattr(bucket_checks, name) for name in dir(bucket_checks) if name.startswith("check_")]


@pytest.fixture(params=LADDERS)
def ladder(request, monkeypatch):
    monkeypatch.setenv(SWITCH, request.param)
    return request.param


def of_phase(phase, limits=LIMITS):
    return [bucket for bucket in hpu_buckets(limits).buckets() if bucket.phase == phase]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_kit_s_checks_of_sizes_hold(check, ladder):
    parameters = inspect.signature(check).parameters
    subject = Subject("hpu-strict", HpuStrict(), ())
    for seed in range(4):
        check(*[seed if name == "seed" else subject for name in parameters])


def test_prompts_are_padded_inside_rows_by_rows_query_and_context(ladder):
    buckets = of_phase("prefill")
    assert all(bucket.num_tokens == bucket.num_rows * (bucket.query_len or 0) for bucket in buckets)
    assert all((bucket.query_len or 1) % LIMITS.block_size == 0 for bucket in buckets)
    alone = [bucket for bucket in buckets if bucket.num_rows == 1]
    assert {bucket.query_len for bucket in alone} >= {128, 512}
    for query, same in groupby(sorted(alone, key=lambda one: one.query_len), key=lambda one: one.query_len):
        blocks = sorted(bucket.max_blocks for bucket in same)
        assert (blocks[0], blocks[-1]) == (query // 128, LIMITS.max_blocks)  # without a context, and with the longest


def test_several_prompts_are_planned_only_as_far_as_a_step_s_tokens_reach(ladder):
    assert all(bucket.num_rows == 1 or bucket.num_tokens <= LIMITS.max_tokens for bucket in of_phase("prefill"))


def test_decode_is_planned_by_rows_and_the_blocks_of_all_of_them(ladder):
    buckets = of_phase("decode")
    assert {bucket.max_blocks for bucket in buckets} == {LIMITS.max_blocks}
    assert max(bucket.num_rows for bucket in buckets) == LIMITS.max_rows
    for rows in {bucket.num_rows for bucket in buckets}:
        blocks = [bucket.num_blocks for bucket in buckets if bucket.num_rows == rows]
        assert max(blocks) == rows * LIMITS.max_blocks
        assert len(set(blocks)) == len(blocks)


def test_exponential_sizes_are_those_of_the_vendor_s_plugin():
    assert sorted({bucket.num_rows for bucket in of_phase("decode")}) == [1, 2, 4, 8]
    blocks = [bucket.num_blocks for bucket in of_phase("decode") if bucket.num_rows == 8]
    assert sorted(blocks) == [8, 16, 32, 64]  # as many as rows at least: fewer rows have a size of their own below


def test_rows_that_hold_drafts_have_sizes_too(ladder):
    drafting = Limits(4, 256, 512, 128, num_drafts=3)
    assert {bucket.query_len for bucket in of_phase("decode", drafting)} == {1, 4}
    assert Bucket("decode", 4, 16, 4, 4, 16) in of_phase("decode", drafting)


def test_unknown_ladders_are_refused(monkeypatch):
    monkeypatch.setenv(SWITCH, "cuda")
    with pytest.raises(ValueError, match=f"{SWITCH} must be one of exponential, linear, pad; got 'cuda'"):
        hpu_buckets(LIMITS)
