"""A step that crossed to another rank is the step that was sent."""

from __future__ import annotations

import numpy as np
import pytest

from jackfield.engine.step import SAMPLED_LAST, Start, Step, TableUpdates
from jackfield.engine.step_codec import StepCodec
from jackfield.sampling_params import SamplingParams


def ids(*numbers):
    return np.array(numbers, np.int32)


STEP = Step(
    id=7,
    slots=ids(3, 0),
    num_computed=ids(12, 0),
    num_new=ids(1, 4),
    samples=np.array([True, False]),
    tokens=ids(SAMPLED_LAST, 5, 6, 7, 2**31 - 1),
    num_decode=1,
    tables=(TableUpdates(ids(0, 0), ids(0, 1), ids(9, 8)), TableUpdates(ids(), ids(), ids())),
    starts=(Start(0, SamplingParams(temperature=0.7, seed=3, stop=["x"]), frozenset({1, 2}), 4, ids(5, 6).tobytes()),),
)


def same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if hasattr(one, "__struct_fields__"):
        return type(one) is type(other) and all(
            same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__
        )
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_every_field_arrives_and_arrays_are_read_only():
    got = StepCodec().decode(StepCodec().encode(STEP))
    assert same(STEP, got)
    assert not got.slots.flags.writeable


def test_what_a_step_does_not_hold_is_refused():
    with pytest.raises(NotImplementedError, match="no set_iterator"):
        StepCodec().encode(iter({1}))
