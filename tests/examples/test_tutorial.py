"""docs/tutorial.md, done step by step in a fresh folder: files written as it shows them, commands run as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    section: str
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        found += [Block(title, language, text) for language, text in BLOCK.findall(section)]
    return found


class Reader:
    """Somebody who follows the page: knows where they are, and has what they installed on their path."""

    def __init__(self, folder: Path) -> None:
        self.site, self.place = folder / "site", folder
        self.said = ""

    def type(self, line: str) -> None:
        """Run one command. `jackfield` and `pip` are those of this environment; `cd` holds."""
        words = shlex.split(line)
        if words[0] == "cd":
            self.place = self.place / words[1]
            return
        if words[0] == "pip":
            self.install()
            return
        program = {"jackfield": [sys.executable, "-W", "error", "-m", "jackfield"]}
        command = [*program.get(words[0], words[:1]), *words[1:]]
        environ = {**os.environ, "PYTHONPATH": str(self.site), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=self.place, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        self.said = done.stdout

    def install(self) -> None:
        """As `pip install -e .` leaves it: the package on the path, and metadata with its entry points."""
        (package,) = self.place.glob("jackfield_*")
        info = self.site / f"{package.name}-0.1.0.dist-info"
        info.mkdir(parents=True)
        (self.site / package.name).symlink_to(package)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.place.name}\nVersion: 0.1.0\n")
        project = (self.place / "pyproject.toml").read_text()
        points = re.findall(r'^\[project\.entry-points\."(.+)"\]\n(\S+) = "(.+)"$', project, re.MULTILINE)
        assert len(points) == 2
        (info / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {at}\n" for group, name, at in points))

    def write(self, text: str) -> None:
        path = re.match(r"# (\S+\.py)\n", text)
        assert path is not None, "a file's first line says where it goes"
        (self.place / path[1]).write_text(text)


@pytest.mark.skipif(sys.platform == "darwin", reason="the page's sed -i is that of Linux")
def test_every_step_of_the_tutorial_works(tmp_path: Path) -> None:
    reader, answers = Reader(tmp_path), {}
    for block in blocks():
        if block.language == "python":
            reader.write(block.text)
            continue
        for line in block.text.splitlines():
            reader.type(line)
            if " conformance " in line:
                passed, failed = re.match(r"(\d+) passed, (\d+) failed", reader.said.splitlines()[-1]).groups()
                assert (int(passed) > 0, failed) == (True, "0"), line
            if " complete " in line:
                answers[block.section] = reader.said
    first, buckets, int8 = answers.values()
    assert len(first.split()) >= 3
    assert buckets == first, "the same tokens out of captured programs"
    assert int8.strip()


def test_it_says_what_it_does_with_every_part() -> None:
    sections = {block.section.partition(". ")[2] for block in blocks()}
    assert sections == {
        "A plugin that is found",
        "The first token",
        "Attention of your own",
        "Buckets and graphs",
        "Fast ops",
        "Quantised weights",
        "Proof",
    }
