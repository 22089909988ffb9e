"""Finding TPU chips, over folders that stand for a machine's."""

from __future__ import annotations

import os

import pytest

from jackfield_tpu.chips import Chips, find_chips


def machine(root, devices=(), files=()):
    """`devices`: (vendor, device) of each place on the bus."""
    for place, (vendor, device) in enumerate(devices):
        folder = root / "sys/bus/pci/devices" / f"0000:00:{place:02x}.0"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "device").write_text(f"{device}\n")
    for name in files:
        file = root / "dev" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return find_chips(root)


V5E, NETWORK = ("0x1ae0", "0x0063"), ("0x1ae0", "0x0042")


def test_a_machine_without_any(tmp_path):
    assert machine(tmp_path) == Chips()


def test_other_devices_of_the_vendor_and_of_others_are_no_chips(tmp_path):
    found = machine(tmp_path, [NETWORK, ("0x10de", "0x0063")], ["vfio/0", "vfio/vfio"])
    assert found == Chips()


def test_chips_of_vfio_groups(tmp_path):
    found = machine(tmp_path, [V5E, NETWORK, V5E], ["vfio/0", "vfio/1", "vfio/vfio"])
    assert (found.describe(), found.count) == ("2 x TPU v5e", 2)
    assert [file.rpartition("/")[2] for file in found.files] == ["0", "1"]


def test_older_chips_have_files_of_their_own(tmp_path):
    found = machine(tmp_path, [("0x1ae0", "0x005e")] * 4, ["accel0", "accel1", "accel2", "accel3", "vfio/7"])
    assert (found.describe(), found.count) == ("4 x TPU v4", 4)


def test_a_container_may_see_the_files_and_not_the_bus(tmp_path):
    found = machine(tmp_path, files=["accel0", "accel1", "accel/accel0"])
    assert (found.describe(), found.count) == ("2 x TPU", 2)


def test_a_container_may_have_fewer_files_than_the_bus_has_chips(tmp_path):
    assert machine(tmp_path, [V5E] * 4, ["vfio/2"]).count == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_files_that_may_not_be_opened_are_told(tmp_path):
    found = machine(tmp_path, files=["accel0", "accel1"])
    os.chmod(found.files[1], 0)
    assert found.closed() == [found.files[1]]
