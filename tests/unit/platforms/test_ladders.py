"""Ladders: what holds for each, and what is special to some."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackfield_platforms.buckets.fitted import fit_sizes
from jackfield_platforms.buckets.ladder import (
    AnyLadder,
    CudaSizes,
    Exponential,
    Linear,
    Listed,
    PaddingAware,
    PowersOfTwo,
)

SMALL = st.integers(1, 40)
LADDERS = st.one_of(
    st.builds(Exponential, low=SMALL, step=SMALL, count=SMALL),
    st.builds(Linear, low=SMALL, step=SMALL),
    st.builds(PowersOfTwo, low=SMALL),
    st.builds(PaddingAware, low=SMALL, step=SMALL, relative=st.floats(0, 0.9), absolute=st.integers(0, 64)),
    st.just(CudaSizes()),
    st.lists(SMALL, min_size=1, max_size=9).map(lambda sizes: Listed((*sizes, 5000))),
)


@given(LADDERS, st.integers(1, 5000))
def test_sizes_ascend_and_only_the_last_reaches_the_limit(ladder, limit):
    sizes = ladder.sizes(limit)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] >= 1
    assert sizes[-1] >= limit
    assert all(size < limit for size in sizes[:-1])


@given(LADDERS)
def test_a_ladder_survives_json(ladder):
    assert msgspec.json.decode(msgspec.json.encode(ladder), type=AnyLadder) == ladder


@given(st.integers(1, 64), st.integers(1, 128), st.integers(2, 12), st.integers(1, 5000))
def test_exponential_sizes_follow_their_formula(low, step, count, limit):
    wanted = {math.ceil(round(low * (limit / low) ** (i / (count - 1)), 6) / step) * step for i in range(count)}
    if limit > low:
        assert set(Exponential(low, step, count).sizes(limit)) == {
            size for size in wanted if size < limit or size == min(w for w in wanted if w >= limit)
        }


def test_a_linear_ladder_doubles_up_to_its_step():
    assert Linear(low=2, step=16).sizes(60) == (2, 4, 8, 16, 32, 48, 64)


def test_cuda_sizes_are_those_that_graphs_are_captured_at():
    assert CudaSizes().sizes(32) == (1, 2, 4, 8, 16, 24, 32)
    assert CudaSizes().sizes(300)[-3:] == (272, 288, 304)


@given(st.integers(1, 64), st.floats(0, 0.8), st.integers(0, 64), st.integers(1, 3000))
def test_padding_aware_sizes_keep_padding_within_either_limit(low, relative, absolute, limit):
    sizes = PaddingAware(low, 1, relative, absolute).sizes(limit)
    for size in range(sizes[0] + 1, limit + 1):
        bucket = next(one for one in sizes if one >= size)
        assert bucket - size <= max(absolute, relative * bucket + 1e-6)


@given(st.integers(1, 64), st.floats(0, 0.8), st.integers(0, 64), st.integers(1, 3000))
def test_padding_aware_sizes_are_as_few_as_can_be(low, relative, absolute, limit):
    sizes = PaddingAware(low, 1, relative, absolute).sizes(limit)
    for before, after in itertools.pairwise(sizes[:-1]):
        smallest, wider = before + 1, after + 1
        assert wider - smallest > max(absolute, relative * wider - 1e-6), "a wider bucket would do"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Exponential(low=0), "low"),
        (lambda: Linear(step=0), "step"),
        (lambda: PaddingAware(relative=1.0), "relative"),
        (lambda: PaddingAware(absolute=-1), "absolute"),
        (lambda: Listed(()), "values"),
        (lambda: Listed((0, 4)), "values"),
        (lambda: Listed((2, 4)).sizes(5), "4"),
    ],
)
def test_numbers_that_make_no_ladder_are_refused_by_name(make, field):
    with pytest.raises(ValueError, match=field):
        make()


@given(st.lists(st.integers(1, 12), max_size=30), st.integers(1, 4))
def test_fitted_sizes_waste_least_of_all_lists_of_as_many(seen, count):
    limit = 12
    fitted = fit_sizes(seen, limit, count)
    for number, ladder in enumerate(fitted, start=1):
        assert len(ladder.values) <= number
        assert ladder.values[-1] == limit
        best = min(_padded(seen, (*chosen, limit)) for chosen in itertools.combinations(range(1, limit), number - 1))
        assert _padded(seen, ladder.values) == best


def _padded(seen, sizes):
    return sum(min(size for size in sizes if size >= one) for one in seen)


def test_sizes_too_many_to_tell_apart_are_fitted_on_a_grid():
    seen = np.random.default_rng(0).integers(1, 100_000, 3000)
    ladder = fit_sizes(seen.tolist(), 100_000, 8)[-1]
    assert len(ladder.values) == 8
    assert _padded(seen, ladder.values) < 1.02 * _padded(seen, np.linspace(0, 100_000, 9)[1:].astype(int))
