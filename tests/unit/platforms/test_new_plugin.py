"""The skeleton that `new-plugin` writes: the example itself under another name, and never over anything."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from jackfield_platforms.new_plugin import NewPluginError, main, write_plugin

EXAMPLE = Path(__file__).parents[3] / "examples" / "plugin-template"


def texts(folder):
    """Contents of every file by its path, without what Python left there."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def test_under_the_example_s_name_it_is_the_example(tmp_path):
    assert texts(write_plugin("gadget", tmp_path)) == texts(EXAMPLE)
    assert len(texts(EXAMPLE)) >= 10


def test_another_name_takes_every_place_of_the_old_one(tmp_path):
    folder = write_plugin("acme-npu2", tmp_path)
    assert folder == tmp_path / "jackfield-acme-npu2"
    written = texts(folder)
    assert written.keys() == {path.replace("jackfield_gadget", "jackfield_acme_npu2") for path in texts(EXAMPLE)}
    assert [path for path, text in written.items() if "gadget" in text.lower()] == []
    project = written["pyproject.toml"]
    assert 'name = "jackfield-acme-npu2"' in project
    assert 'acme-npu2 = "jackfield_acme_npu2.probe"' in project
    assert "class AcmeNpu2Platform(Platform):" in written["jackfield_acme_npu2/platform.py"]
    assert "ACME_NPU2_UNPLUGGED" in written["jackfield_acme_npu2/probe.py"]
    for path, text in written.items():
        if path.endswith(".py"):
            ast.parse(text, path)


def test_a_name_may_contain_the_example_s(tmp_path):
    assert 'name = "gadgets"' in texts(write_plugin("gadgets", tmp_path))["jackfield_gadgets/platform.py"]


@pytest.mark.parametrize(
    "name", ["", "Falcon", "2fast", "a_b", "a--b", "-a", "a-", "a b", "../a", "a" * 41, "falcon\n"]
)
def test_a_name_that_cannot_be_one_is_refused_with_an_example(name, tmp_path):
    with pytest.raises(NewPluginError, match=r"(?s)Wanted a name of lower-case letters.*'falcon'"):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "why"), [("platforms", "a distribution of Jackfield"), ("strict", "by jackfield-platforms; two")]
)
def test_a_name_that_is_taken_is_refused(name, why, tmp_path):
    with pytest.raises(NewPluginError, match=rf"{why}.*[Cc]hoose another name"):
        write_plugin(name, tmp_path)


def test_a_folder_that_is_there_stays_as_it_is(tmp_path):
    (tmp_path / "jackfield-falcon").mkdir()
    with pytest.raises(NewPluginError, match=r"jackfield-falcon; it is there already\. Move it away"):
        write_plugin("falcon", tmp_path)
    assert list((tmp_path / "jackfield-falcon").iterdir()) == []


def test_a_place_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(NewPluginError, match=r"there is no .*nowhere\. Make it first"):
        write_plugin("falcon", tmp_path / "nowhere")


def test_the_module_writes_says_what_comes_next_and_loads_no_framework(tmp_path):
    code = "import sys; from jackfield_platforms.new_plugin import main; main(); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "falcon", "--into", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        f"  pip install -e {tmp_path / 'jackfield-falcon'}",
        "  python -m jackfield_platforms.testing.conformance falcon",
        "  python -m jackfield_platforms.documentation tutorial",
    ]


def test_the_module_s_refusal_is_a_sentence_and_a_status(tmp_path, capsys):
    assert main(["Falcon", "--into", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("Wanted a name")


def test_the_command_line_does_the_same(tmp_path):
    from click.testing import CliRunner

    from jackfield.cli.main import jackfield

    result = CliRunner().invoke(jackfield, ["new-plugin", "falcon", "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "pip install -e" in result.output
    again = CliRunner().invoke(jackfield, ["new-plugin", "falcon", "--into", str(tmp_path)])
    assert again.exit_code == 1
    assert "it is there already" in again.output
