"""The platform over the stand-in: memory, copies to the host, counts, and which graphs its mode takes."""

from __future__ import annotations

import pytest
import torch

from jackfield_hpu.generation import GAUDI2, GAUDI3, generation
from jackfield_hpu.graphs import HpuGraphs
from jackfield_hpu.platform import HpuPlatform
from jackfield_platforms.compiled_graphs import CompiledGraphs
from jackfield_platforms.platform import Memory, ServingSpec

DEVICE = torch.device("cpu")


def test_memory_is_what_the_bridge_says(bridge):
    assert HpuPlatform().memory(DEVICE) == Memory(total=128 << 30, free=90 << 30, limit="device memory")


def test_what_is_taken_at_most_is_counted_over_what_was_there(bridge):
    bridge.allocated = 1000
    taken = HpuPlatform().watch_memory(DEVICE)
    bridge.peak = 4500
    assert taken() == 3500


def test_a_copy_is_waited_for_by_its_event(bridge):
    wait = HpuPlatform().fetch(torch.arange(3))
    assert bridge.events == ["event recorded"]
    assert wait().tolist() == [0, 1, 2]
    HpuPlatform().synchronize(DEVICE)
    assert bridge.events == ["event recorded", "event waited for", "synchronize"]


def test_compilations_are_the_bridge_s_own_count(bridge):
    bridge.compiled = 41
    assert HpuPlatform().num_compilations() == 41


def test_the_mode_decides_how_programs_are_kept(bridge, monkeypatch):
    monkeypatch.delenv("PT_HPU_LAZY_MODE", raising=False)
    assert isinstance(HpuPlatform().graph_runner(), CompiledGraphs)
    assert HpuPlatform().describe() == "GAUDI3, torch.compile"
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "1")
    assert isinstance(HpuPlatform().graph_runner(), HpuGraphs)
    assert HpuPlatform().describe() == "GAUDI3, lazy mode, HPU graphs"


def test_a_process_has_one_device_whatever_its_rank():
    assert {HpuPlatform().device(rank).index for rank in range(3)} == {0}


def test_generations_differ_in_the_reach_of_8_bit_floats(bridge):
    assert generation() == GAUDI3
    bridge.name = "GAUDI2"
    assert generation() == GAUDI2
    bridge.name = "GAUDI"
    with pytest.raises(ValueError, match="the device is 'GAUDI'; the range of its 8-bit floats is known of GAUDI2"):
        generation()


def test_several_ranks_cannot_measure(tmp_path, monkeypatch):
    spec = ServingSpec("bfloat16", "bfloat16", 128, 1024, 8, 512, tensor_parallel_size=2)
    assert HpuPlatform().check(spec) == []
    config = tmp_path / "measure.json"
    config.write_text('{"mode": "MEASURE"}')
    monkeypatch.setenv("QUANT_CONFIG", str(config))
    assert HpuPlatform().check(spec) == [
        "QUANT_CONFIG asks for measurements, which one rank writes; set tensor_parallel_size to 1"
    ]
