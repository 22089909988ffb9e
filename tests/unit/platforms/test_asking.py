"""Which plugins an SDK version can work with."""

from __future__ import annotations

import pytest

from jackfield_platforms.asking import objection


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [((0, 1), (0, 1)), ((1, 0), (1, 0)), ((1, 0), (1, 4)), ((2, 3), (2, 3))],
)
def test_a_plugin_of_a_compatible_version_is_taken(theirs, ours):
    assert objection(theirs, ours) is None


@pytest.mark.parametrize(
    ("theirs", "ours", "what"),
    [
        ((0, 1), (0, 2), "the plugin"),  # while the major number is 0, every minor one may break
        ((0, 2), (0, 1), "jackfield"),
        ((1, 5), (1, 4), "jackfield"),
        ((1, 9), (2, 0), "the plugin"),
        ((2, 0), (1, 9), "jackfield"),
    ],
)
def test_a_plugin_of_another_version_is_refused_and_the_older_side_named(theirs, ours, what):
    assert objection(theirs, ours).endswith(f"upgrade {what}")
