"""Whether the machine's Gaudis can be used, and why not."""

from __future__ import annotations

import pytest

from jackfield_hpu.devices import Accelerator
from jackfield_hpu.hl_smi import Listed, ToolError
from jackfield_hpu.probe import judge
from jackfield_hpu.software import Software
from jackfield_platforms.asking import Question
from jackfield_platforms.discovery import ask

READY = Software(torch="2.7.1", bridge="1.22.1.6")
GAUDI3 = Accelerator("accel0", "GAUDI3", "operational", True)
SECOND = Accelerator("accel1", "GAUDI3", "operational", True)
LISTED = tuple(Listed(index, module, "HL-325L", "1.22.1", 131072) for index, module in enumerate((5, 2)))


def judged(*found, listed=LISTED, software=READY, environ=None):
    return judge(found, lambda: listed, software, environ or {})


def test_devices_are_counted_and_described():
    found = judged(GAUDI3, SECOND)
    assert (found.state, found.devices, found.score) == ("usable", 2, 100)
    assert found.why == "2 x GAUDI3 (HL-325L, 128 GiB), driver 1.22.1, torch 2.7.1, habana-torch-plugin 1.22.1.6"


def test_without_hl_smi_the_driver_s_own_words_do():
    assert judged(GAUDI3, listed=None).why.startswith("1 x GAUDI3, torch 2.7.1")


def test_a_machine_without_a_device_is_fine():
    assert judged().state == "absent"


def test_a_tool_that_fails_makes_the_device_unusable():
    def fails():
        raise ToolError("hl-smi ended with status 3: no driver")

    found = judge((GAUDI3,), fails, READY, {})
    assert (found.state, found.why) == ("unusable", "hl-smi ended with status 3: no driver")


@pytest.mark.parametrize(
    ("device", "software", "why"),
    [
        (Accelerator("accel0", "GAUDI", "operational", True), READY, "GAUDI is too old"),
        (Accelerator("accel0", "GAUDI2", "in reset", True), READY, "accel0 is 'in reset'; hl-smi tells more"),
        (Accelerator("accel0", "GAUDI2", "operational", False), READY, "no permission on /dev/accel/accel0"),
        (GAUDI3, Software("2.7.1", None), "habana-torch-plugin is not installed; take the vendor's container"),
        (GAUDI3, Software(None, "1.22"), "torch is not installed"),
    ],
)
def test_what_stands_in_the_way_is_told(device, software, why):
    found = judged(device, software=software)
    assert found.state == "unusable"
    assert why in found.why


def test_modules_that_the_user_names_are_counted():
    assert judged(GAUDI3, SECOND, environ={"HABANA_VISIBLE_MODULES": "2"}).devices == 1
    assert judged(GAUDI3, SECOND, listed=None, environ={"HABANA_VISIBLE_MODULES": "0,1"}).devices == 2
    found = judged(GAUDI3, SECOND, environ={"HABANA_VISIBLE_MODULES": "7"})
    assert (found.state, found.why.split(" names")[0]) == ("absent", "HABANA_VISIBLE_MODULES=7")
    found = judged(GAUDI3, environ={"HABANA_VISIBLE_MODULES": "all"})
    assert (found.state, found.why) == (
        "unusable",
        "HABANA_VISIBLE_MODULES=all is no list of modules; wanted something like 0,1,2,3",
    )


def test_this_machine_is_asked_as_a_launch_asks_it():
    answer = ask(Question("jackfield_hpu.probe"))
    assert answer.error is None
    assert answer.probe is not None
    assert answer.probe.why
