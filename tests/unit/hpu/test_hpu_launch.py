"""What is set before torch and the bridge are loaded."""

from __future__ import annotations

import pytest

from jackfield_hpu.launch import ModulesError, variables
from jackfield_platforms.probe import LaunchOptions

ONE, SECOND = LaunchOptions(), LaunchOptions(local_rank=1, local_size=2)


def test_programs_are_compiled_by_torch_unless_the_user_says_otherwise():
    assert variables(ONE, {}) == {
        "PT_HPU_LAZY_MODE": "0",
        "PT_HPU_WEIGHT_SHARING": "0",
        "RUNTIME_SCALE_PATCHING": "1",
        "FUSER_ENABLE_MULTI_THREADED_INVOCATIONS": "1",
    }


def test_lazy_mode_gets_what_its_graphs_need():
    assert variables(ONE, {"PT_HPU_LAZY_MODE": "1"}) == {
        "PT_HPU_WEIGHT_SHARING": "0",
        "PT_HPU_ENABLE_LAZY_COLLECTIVES": "true",
    }


def test_what_the_user_set_stays():
    theirs = dict.fromkeys(variables(SECOND, {}), "0")
    assert variables(SECOND, theirs) == {}


def test_each_rank_gets_a_module():
    assert variables(SECOND, {})["HLS_MODULE_ID"] == "1"
    assert variables(SECOND, {"HABANA_VISIBLE_MODULES": "6,4"})["HLS_MODULE_ID"] == "4"
    assert "HLS_MODULE_ID" not in variables(ONE, {})
    with pytest.raises(ModulesError, match="HABANA_VISIBLE_MODULES=3 names 1 modules for 2 ranks"):
        variables(SECOND, {"HABANA_VISIBLE_MODULES": "3"})


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("PT_HPU_LAZY_MODE", "2", "0 or 1"),
        ("RUNTIME_SCALE_PATCHING", "yes", "one of 0, 1"),
        ("PT_HPU_H2D_TRIVIAL_SCALES_MODE", "3", "one of 0, 1, 2"),
    ],
)
def test_a_value_that_there_is_not_is_an_error(name, value, known):
    with pytest.raises(ValueError, match=f"{name} must be {known}; got '{value}'"):
        variables(ONE, {name: value})


def test_modes_of_8_bit_scales_reach_the_bridge_as_they_are():
    theirs = {"RUNTIME_SCALE_PATCHING": "0", "PT_HPU_H2D_TRIVIAL_SCALES_MODE": "2"}
    assert not theirs.keys() & variables(ONE, theirs).keys()
