"""What the driver's folders say of Gaudi devices."""

from __future__ import annotations

import pytest

from jackfield_hpu.devices import Accelerator, accelerators


@pytest.fixture
def machine(tmp_path):
    """Adds devices below a root of its own."""

    def add(number, vendor="0x1da3", kind="GAUDI3", status="operational", opens=True):
        folder = tmp_path / f"sys/class/accel/accel{number}/device"
        folder.mkdir(parents=True)
        for name, text in {"vendor": vendor, "device_type": kind, "status": status}.items():
            if text is not None:
                (folder / name).write_text(f"{text}\n")
        if opens:
            (tmp_path / "dev/accel").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"dev/accel/accel{number}").touch()
        return tmp_path

    return add


def test_devices_are_listed_in_the_driver_s_order(machine):
    for number in (10, 0, 2):
        root = machine(number)
    assert [device.name for device in accelerators(root)] == ["accel0", "accel2", "accel10"]
    assert accelerators(root)[0] == Accelerator("accel0", "GAUDI3", "operational", True)


def test_accelerators_of_other_vendors_are_left_out(machine):
    machine(0, vendor="0x1022")
    root = machine(1, kind="GAUDI2")
    assert [device.kind for device in accelerators(root)] == ["GAUDI2"]


def test_the_driver_s_state_and_permissions_are_told(machine):
    machine(0, status="in reset")
    root = machine(1, opens=False)
    assert [(device.status, device.is_open) for device in accelerators(root)] == [
        ("in reset", True),
        ("operational", False),
    ]


def test_a_driver_that_says_less_is_taken_to_be_well(machine):
    root = machine(0, kind=None, status=None)
    assert accelerators(root) == (Accelerator("accel0", "Gaudi", "operational", True),)


def test_a_machine_without_accelerators_has_none(tmp_path):
    assert accelerators(tmp_path) == ()
