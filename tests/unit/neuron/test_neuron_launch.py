"""What a launch puts into the environment, and what it leaves to the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from jackfield_neuron.cores import CoresError
from jackfield_neuron.launch import variables
from jackfield_platforms.probe import LaunchOptions

HOME = Path("/home/somebody")


def env(environ=None, **options):
    return variables(LaunchOptions(**options), environ or {}, HOME)


def test_one_process_gets_one_core_a_cache_and_the_compiler_s_flags():
    assert env() == {
        "PJRT_DEVICE": "NEURON",
        "XLA_USE_32BIT_LONG": "1",
        "NEURON_CC_FLAGS": "--model-type=transformer",
        "NEURON_COMPILE_CACHE_URL": "/home/somebody/.cache/jackfield/neuron",
        "NEURON_RT_VISIBLE_CORES": "0",
    }
    assert env({"XDG_CACHE_HOME": "/fast"})["NEURON_COMPILE_CACHE_URL"] == "/fast/jackfield/neuron"


def test_what_the_user_set_stays():
    own = {"NEURON_CC_FLAGS": "-O1", "NEURON_COMPILE_CACHE_URL": "s3://bucket/cache", "XLA_USE_32BIT_LONG": "0"}
    assert env(own) == {"PJRT_DEVICE": "NEURON", "NEURON_RT_VISIBLE_CORES": "0"}
    assert "NEURON_COMPILE_CACHE_URL" not in env({"NEURON_CC_FLAGS": "--cache_dir=/elsewhere"})


def test_each_rank_takes_a_core_of_those_that_are_visible_and_all_meet_at_one_port():
    ranks = [env({"NEURON_RT_VISIBLE_CORES": "4-7"}, local_rank=rank, local_size=3) for rank in range(3)]
    assert [one["NEURON_RT_VISIBLE_CORES"] for one in ranks] == ["4", "5", "6"]
    assert {one["NEURON_RT_ROOT_COMM_ID"] for one in ranks} == {"localhost:62186"}
    assert {one["NEURON_PJRT_PROCESSES_NUM_DEVICES"] for one in ranks} == {"1,1,1"}
    assert [one["NEURON_PJRT_PROCESS_INDEX"] for one in ranks] == ["0", "1", "2"]
    assert [one["PJRT_LOCAL_PROCESS_RANK"] for one in ranks] == ["0", "1", "2"]


def test_two_engines_on_one_machine_meet_at_two_ports():
    first, second = (env({"NEURON_RT_VISIBLE_CORES": cores}, local_size=2) for cores in ("0-1", "2-3"))
    assert first["NEURON_RT_ROOT_COMM_ID"] != second["NEURON_RT_ROOT_COMM_ID"]


def test_more_ranks_than_visible_cores_are_refused():
    with pytest.raises(CoresError, match="NEURON_RT_VISIBLE_CORES=1 leaves 1 core to 2 ranks"):
        env({"NEURON_RT_VISIBLE_CORES": "1"}, local_rank=1, local_size=2)
