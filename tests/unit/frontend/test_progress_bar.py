"""The bar: drawn on a terminal, and costing nothing elsewhere."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from jackfield.progress import progress_bar

CODE = """
import sys, jackfield.llm, jackfield.engine.assembly
from jackfield.progress import progress_bar
with progress_bar("Loading", 10, shown=True) as advance:
    advance(10)
sys.exit(any(name.split(".")[0] == "rich" for name in sys.modules))
"""


class Terminal(io.StringIO):
    """Standard error that somebody looks at."""

    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, *, shown: bool, in_bytes: bool = False) -> str:
    """What a bar with two steps of 2 MB writes, without the terminal's own codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw(monkeypatch, shown=shown, in_bytes=in_bytes))


def raw(monkeypatch: pytest.MonkeyPatch, **options: bool) -> str:
    """The same with them."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("Loading", 4_000_000, **options) as advance:
        advance(2_000_000)
        advance(2_000_000, "Nearly there")
    return terminal.getvalue()


def test_a_terminal_sees_title_and_share(monkeypatch):
    text = drawn(monkeypatch, shown=True)
    assert "Nearly there" in text
    assert "100%" in text


def test_bytes_are_told_as_such(monkeypatch):
    assert "4.0/4.0 MB" in drawn(monkeypatch, shown=True, in_bytes=True)


def test_a_transient_bar_is_wiped_away_in_the_end(monkeypatch):
    wipe = "\x1b[2K"  # erases a line
    assert raw(monkeypatch, shown=True, transient=True).endswith(wipe)
    assert not raw(monkeypatch, shown=True).endswith(wipe)


def test_nothing_is_drawn_unasked(monkeypatch):
    assert drawn(monkeypatch, shown=False) == ""


def test_without_a_terminal_nothing_is_imported_to_draw():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
