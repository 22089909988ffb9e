"""What the vendor's tool writes, and what becomes of it when it fails."""

from __future__ import annotations

import pytest

from jackfield_hpu import hl_smi
from jackfield_hpu.hl_smi import Listed, ToolError, ask, listed

OUTPUT = "0, 3, HL-325L, 1.22.1-6ecd6a8, 131072 MiB\n1, 0, HL-325L, 1.22.1-6ecd6a8, 131072 MiB\n"


def tool(tmp_path, monkeypatch, text):
    path = tmp_path / "hl-smi"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_each_line_is_a_device():
    assert listed(OUTPUT)[0] == Listed(0, 3, "HL-325L", "1.22.1-6ecd6a8", 131072)
    assert [device.module_id for device in listed(OUTPUT)] == [3, 0]


@pytest.mark.parametrize("line", ["0, HL-325L", "a, 3, HL-325L, 1.22, 131072 MiB", "0, 3, HL-325L, 1.22, N/A", "error"])
def test_another_form_is_an_error_that_shows_it(line):
    with pytest.raises(
        ToolError, match=r"hl-smi wrote .*; wanted index, module_id, name, driver_version, memory.total"
    ):
        listed(line)


def test_the_tool_is_asked_for_what_is_read(tmp_path, monkeypatch):
    tool(tmp_path, monkeypatch, f'[ "$*" = "-Q {",".join(hl_smi.TYPES)} -f csv,noheader" ] && printf "{OUTPUT}"')
    assert ask() == listed(OUTPUT)


def test_a_tool_that_fails_is_told_in_its_own_words(tmp_path, monkeypatch):
    tool(tmp_path, monkeypatch, "echo no driver >&2; exit 3")
    with pytest.raises(ToolError, match="hl-smi ended with status 3: no driver"):
        ask()


def test_a_tool_that_hangs_is_ended(tmp_path, monkeypatch):
    tool(tmp_path, monkeypatch, "exec sleep 5")
    monkeypatch.setattr(hl_smi, "_SECONDS", 0.2)
    with pytest.raises(ToolError, match=r"hl-smi cannot be run: .*timed out"):
        ask()


def test_a_machine_may_be_without_the_tool(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask() is None
