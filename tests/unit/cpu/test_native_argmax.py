"""Greedy sampling's kernel beside torch's own argmax: ties, infinities, NaN, strides, many threads."""

from __future__ import annotations

import native_levels
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jackfield_cpu.native_ops import ops
from jackfield_platforms.linear import torch_dtype

NOTHING, INFINITY, NAN = float("-inf"), float("inf"), float("nan")


@pytest.mark.parametrize("level", native_levels.levels())
@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(0, 40),
    width=st.one_of(st.integers(1, 200), st.integers(8_100, 30_000)),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    strange=st.lists(st.sampled_from([NOTHING, INFINITY, NAN, 50.0]), max_size=4),
    threads=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**31),
)
def test_places_are_torchs(level, rows, width, dtype, strange, threads, seed):
    generator = torch.Generator().manual_seed(seed)
    wide = torch.randn(rows, width + 5, generator=generator).to(torch_dtype(dtype))
    x = wide[:, 3 : width + 3]
    for value in strange:  # each in some places of some rows
        x[torch.rand(x.shape, generator=generator) < 2 / width] = value
    (argmax,) = ops(native_levels.kernels_of(level, threads)).argmax
    assert torch.equal(argmax.fn(x), x.argmax(-1))


def test_a_row_without_any_token_gives_the_first():
    (argmax,) = ops(native_levels.kernels_of(native_levels.levels()[0], 2)).argmax
    assert argmax.fn(torch.full((3, 9_000), NOTHING)).tolist() == [0, 0, 0]
