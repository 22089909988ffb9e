"""The example plugin, built as a wheel and installed beside ours: found at launch, and its tokens are ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

TEMPLATE = Path(__file__).parents[2] / "examples" / "plugin-template"
SIZES = ("--max-model-len", "128", "--max-num-seqs", "4", "--max-num-batched-tokens", "32", "--kv-cache-memory", "8M")


@pytest.fixture(scope="module")
def gadget(run, clean, tmp_path_factory):
    """The interpreter of the clean environment, with the example installed too."""
    folder = tmp_path_factory.mktemp("gadget")
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    run(sys.executable, *build, str(TEMPLATE), cwd=folder)
    (wheel,) = folder.glob("*.whl")
    run(clean, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel), cwd=folder)
    yield clean
    run(clean, "-m", "pip", "uninstall", "--quiet", "--yes", "jackfield-gadget", cwd=folder)


def test_it_is_found_at_launch(run, gadget, tmp_path):
    said = json.loads(run(gadget.parent / "jackfield", "platforms", "--json", cwd=tmp_path))
    (found,) = (one for one in said["platforms"] if one["name"] == "gadget")
    assert (found["dist"], found["state"], found["devices"]) == ("jackfield-gadget", "usable", 1)
    assert said["selected"] == "cpu", "a gadget scores less than a processor"


def test_its_tokens_are_those_of_the_processor(run, gadget, tmp_path):
    command = (gadget.parent / "jackfield", "complete", "A list is", "--temperature", "0", "--max-tokens", "40", *SIZES)
    ours, theirs = (run(*command, "--dtype", "float32", "--platform", name, cwd=tmp_path) for name in ("cpu", "gadget"))
    assert theirs == ours
    assert len(ours.split()) > 10


def test_it_passes_conformance(run, gadget, tmp_path):
    said = run(gadget.parent / "jackfield", "conformance", "gadget", "--seeds", "1", cwd=tmp_path)
    passed, failed = said.splitlines()[-1].split(", ")
    assert failed == "0 failed"
    assert int(passed.removesuffix(" passed")) > 150


def test_it_patches_nothing_and_stays_small():
    sources = {path: path.read_text() for path in sorted(TEMPLATE.rglob("*.py"))}
    lines = sum(text.count("\n") for text in sources.values()) + (TEMPLATE / "pyproject.toml").read_text().count("\n")
    assert lines <= 300
    for path, text in sources.items():
        assert "import jackfield\n" not in text, path
        assert "from jackfield." not in text, path


def test_the_sdk_s_wheel_alone_writes_a_plugin_that_builds_and_is_found(run, clean, tmp_path):
    run(clean, "-m", "jackfield_platforms.new_plugin", "falcon", cwd=tmp_path)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path))
    run(sys.executable, *build, str(tmp_path / "jackfield-falcon"), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    run(clean, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, str(wheel), cwd=tmp_path)
    code = f"import sys; sys.path.append({str(site)!r}); from jackfield.cli.main import main; main()"
    said = json.loads(run(clean, "-c", code, "platforms", "--platform", "falcon", "--json", cwd=tmp_path))
    assert said["selected"] == "falcon"
