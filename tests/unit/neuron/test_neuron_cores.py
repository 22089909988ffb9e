"""Reading NEURON_RT_VISIBLE_CORES."""

from __future__ import annotations

import pytest

from jackfield_neuron.cores import VISIBLE, CoresError, visible_cores


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("3", (3,)),
        ("0-3", (0, 1, 2, 3)),
        ("4,0-1", (4, 0, 1)),
        (" 2 - 3 , 7 ", (2, 3, 7)),
        ("", (0, 1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_cores_and_ranges_are_read(text, cores):
    assert visible_cores({VISIBLE: text}, 8) == cores


def test_without_the_variable_all_are_visible_as_far_as_they_are_known():
    assert visible_cores({}, 2) == (0, 1)
    assert visible_cores({}) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a", "is no list of cores"),
        ("1-", "is no list"),
        ("3-1", "or none"),
        ("1,0-1", "twice"),
        ("0-8", "names core 8"),
    ],
)
def test_nonsense_is_quoted(text, why):
    with pytest.raises(CoresError, match=f"{VISIBLE}={text}.*{why}"):
        visible_cores({VISIBLE: text}, 8)
