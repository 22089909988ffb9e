"""Fake plugins with real metadata: what a machine has installed is what the test installed, and nothing else."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

from jackfield_platforms import API_VERSION

PROBE = """
from jackfield_platforms.probe import Launch, Probe
API_VERSION = {version}
def probe():
    return Probe("{state}", "{why}", devices={devices}, score={score})
def environment(options):
    return Launch()
"""


class Site:
    """A folder that stands for site-packages; `log` is where fake modules may write that they ran."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "ran.txt"

    @staticmethod
    def answers(state: str, *, why: str = "1 device", score: int = 100, version: object = API_VERSION) -> str:
        """The source of a probe module that answers as it should."""
        devices = int(state == "usable")
        return PROBE.format(version=version, state=state, why=why, devices=devices, score=score)

    def install(self, name: str, probe: str | None = None, plugin: str | None = None, *, dist: str = "") -> None:
        """Write a distribution with a module for each entry-point group that is given a source."""
        dist = dist or f"vendor-{name}"
        stem = dist.replace("-", "_")
        info = self.folder / f"{stem}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
        points = ""
        for group, source in (("probes", probe), ("plugins", plugin)):
            if source is not None:
                points += f"[jackfield.{group}]\n{name} = {stem}_{group}\n"
                (self.folder / f"{stem}_{group}.py").write_text(textwrap.dedent(source))
        (info / "entry_points.txt").write_text(points)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Other packages can be imported as ever, but no distribution is installed beside those of the test."""
    bare, folder = tmp_path / "bare", tmp_path / "site"
    bare.mkdir()
    folder.mkdir()
    packages = Path(msgspec.__file__).parents[1]
    for entry in packages.iterdir():
        if not entry.name.endswith((".dist-info", ".egg-info", ".pth")):
            (bare / entry.name).symlink_to(entry)
    others = [place for place in sys.path if place and Path(place).resolve() != packages.resolve()]
    monkeypatch.setattr(sys, "path", [str(folder), str(bare), *others])
    monkeypatch.delenv("JACKFIELD_PLATFORM", raising=False)
    known = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - known:
        if name.startswith("vendor_"):
            del sys.modules[name]
