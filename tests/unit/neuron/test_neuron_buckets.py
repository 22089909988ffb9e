"""Context and generation lengths: how many programs there are, and that every step of the scheduler finds one."""

from __future__ import annotations

import numpy as np
import pytest

from jackfield_neuron.buckets import lengths, neuron_buckets
from jackfield_platforms.bucket import Limits, RowSizes

LIMITS = Limits(max_rows=16, max_tokens=2048, max_model_len=8192, block_size=32)


def placed(limits, *rows):
    new, kv_len = np.array(rows, np.int32).T
    return neuron_buckets(limits).strict().place(RowSizes(np.ascontiguousarray(new), np.ascontiguousarray(kv_len)))


def test_lengths_double_and_end_at_the_longest():
    assert lengths(1000) == (128, 256, 512, 1000)
    assert lengths(1024) == (128, 256, 512, 1024)
    assert lengths(100) == (100,)
    assert lengths(8192, 4, start=256) == (256, 1024, 4096, 8192)


def test_prompts_are_one_row_and_generation_is_all_rows():
    buckets = neuron_buckets(LIMITS).buckets()
    prompts = [bucket for bucket in buckets if bucket.phase == "prefill"]
    decode = [bucket for bucket in buckets if bucket.phase == "decode"]
    assert {bucket.num_rows for bucket in prompts} == {1}
    assert {(bucket.num_rows, bucket.query_len) for bucket in decode} == {(16, 1)}
    assert sorted({bucket.query_len for bucket in prompts}) == [128, 256, 512, 1024, 2048]
    assert sorted(bucket.max_blocks * 32 for bucket in decode) == [128, 256, 512, 1024, 2048, 4096, 8192]
    assert (len(prompts), len(decode)) == (16, 7)


def test_a_whole_prompt_finds_a_context_of_its_own_length():
    (one,) = placed(LIMITS, (300, 300))
    assert (one.bucket.query_len, one.bucket.max_blocks * 32) == (512, 512)


def test_a_chunk_behind_a_long_context_finds_the_next_longer_one():
    (one,) = placed(LIMITS, (128, 600))
    assert (one.bucket.query_len, one.bucket.max_blocks * 32) == (128, 2048)
    (one,) = placed(LIMITS, (2048, 8192))
    assert (one.bucket.query_len, one.bucket.max_blocks * 32) == (2048, 8192)


@pytest.mark.parametrize("count", [1, 5, 16])
def test_decode_rows_are_padded_to_all_rows_and_to_the_longest_of_them(count):
    (one,) = placed(LIMITS, *[(1, 40 * place + 1) for place in range(count)])
    assert one.bucket.num_rows == 16
    assert one.bucket.max_blocks * 32 == {1: 128, 5: 256, 16: 1024}[count]


def test_drafts_are_verified_in_rows_of_their_own_length():
    limits = Limits(4, 512, 512, 16, num_drafts=3)
    lengths_of_rows = {bucket.query_len for bucket in neuron_buckets(limits).buckets() if bucket.phase == "decode"}
    assert lengths_of_rows == {1, 4}
    (one,) = placed(limits, (4, 100), (2, 90))
    assert (one.bucket.phase, one.bucket.query_len, one.bucket.num_rows) == ("decode", 4, 4)


def test_limits_below_the_smallest_length_are_one_program_each():
    small = Limits(max_rows=2, max_tokens=64, max_model_len=64, block_size=16)
    assert [bucket.describe() for bucket in neuron_buckets(small).buckets()] == [
        "prefill, num_rows 1, num_tokens 64, query_len 64, max_blocks 4",
        "decode, num_rows 2, num_tokens 2, query_len 1, max_blocks 4",
    ]
