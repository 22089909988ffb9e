"""What platforms through torch-xla have in common, as far as it can be told without a device."""

from __future__ import annotations

import pytest
import torch
from fake_torch_xla import install

from jackfield_platforms.capabilities import Capabilities
from jackfield_xla import program_cache
from jackfield_xla.host import XlaOnHost
from jackfield_xla.platform import XlaPlatform


class Gadget(XlaPlatform):
    name = "gadget"
    runtime = "GADGET"

    def capabilities(self):
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",), static_shapes=True, memory_utilization=0.9)

    def attention_backends(self):
        return ()


class GadgetOnHost(XlaOnHost, Gadget):
    name = "gadget-cpu"


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.delenv(program_cache.VARIABLE, raising=False)


def test_a_rank_s_device_is_the_runtime_s(monkeypatch):
    calls = install(monkeypatch, device_type=lambda: "GADGET", device=lambda index: torch.device("meta", index))
    assert Gadget().device(3) == torch.device("meta", 3)
    assert calls[-1] == ("device", {"index": 3})


@pytest.mark.parametrize(("platform", "wanted"), [(Gadget, "GADGET"), (GadgetOnHost, "CPU")])
def test_another_runtime_is_an_error_that_names_the_variable(monkeypatch, platform, wanted):
    install(monkeypatch, device_type=lambda: "OTHER")
    with pytest.raises(RuntimeError, match=f"PJRT_DEVICE={wanted}, and torch-xla runs on OTHER"):
        platform().device()


def test_synchronize_launches_what_was_recorded_and_waits_for_all_of_it(monkeypatch):
    calls = install(monkeypatch, sync=lambda: None, wait_device_ops=lambda: None)
    Gadget().synchronize(torch.device("meta", 0))
    assert calls == [("sync", {}), ("wait_device_ops", {})]


def test_a_host_tensor_is_fetched_without_the_runtime(monkeypatch):
    install(monkeypatch)
    tensor = torch.arange(4)
    wait = Gadget().fetch(tensor)
    tensor.zero_()
    assert wait().tolist() == [0, 1, 2, 3]


def test_on_the_host_everything_but_memory_is_the_plugin_s_own():
    on_host = GadgetOnHost().capabilities()
    assert (on_host.dtypes, on_host.static_shapes, on_host.memory_utilization) == (("float32",), True, 0.25)
    assert GadgetOnHost().memory(torch.device("cpu")).shared
    assert GadgetOnHost().watch_memory(torch.device("cpu")) is None
