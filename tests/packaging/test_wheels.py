"""The five wheels, built and installed where no checkout is in sight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
FOLDERS = ("platforms", "attention_backends", "quantization", "core", "plugins/cpu")
PACKAGES = ("jackfield", "jackfield_attention", "jackfield_cpu", "jackfield_platforms", "jackfield_quantization")


def run(*command, cwd):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JACKFIELD"))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Path of each wheel by package."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
    ]
    run(*build, *(str(ROOT / name) for name in FOLDERS), cwd=folder)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def clean(wheels, tmp_path_factory):
    """A fresh virtual environment with the wheels; third-party packages are those of this interpreter."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", str(folder / "venv"), cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", *map(str, wheels.values()), cwd=folder)
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=folder).strip()
    paths = sysconfig.get_paths()
    (Path(own) / "third_party.pth").write_text(f"{paths['purelib']}\n{paths['platlib']}\n")
    return python


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_its_package_its_types_and_its_licence_and_nothing_else(wheels, package):
    names = zipfile.ZipFile(wheels[package]).namelist()
    assert f"{package}/__init__.py" in names
    assert f"{package}/py.typed" in names
    info = f"{package}-0.1.0.dist-info"
    assert f"{info}/licenses/LICENSE" in names
    assert {name.partition("/")[0] for name in names} == {package, info}


def test_the_embedded_model_is_in_the_core_s_wheel(wheels):
    names = {name for name in zipfile.ZipFile(wheels["jackfield"]).namelist() if name.startswith("jackfield/embedded/")}
    checked_in = {
        f"jackfield/embedded/{path.name}" for path in (ROOT / "core/jackfield/embedded").iterdir() if path.is_file()
    }
    assert names == checked_in
    assert any(name.endswith(".safetensors") for name in names)
    assert sum(zipfile.ZipFile(wheels["jackfield"]).getinfo(name).file_size for name in names) < 8 << 20


def test_the_command_runs_from_the_wheels(clean, tmp_path):
    where = run(clean, "-c", "import jackfield; print(jackfield.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(clean.parents[1])
    assert run(clean.parent / "jackfield", "--version", cwd=tmp_path) == "jackfield 0.1.0\n"


def test_the_plugin_is_found_through_its_entry_point(clean, tmp_path):
    said = json.loads(run(clean.parent / "jackfield", "platforms", "--json", cwd=tmp_path))
    assert said["selected"] == "cpu"
    assert [(one["name"], one["dist"], one["state"]) for one in said["platforms"]] == [
        ("cpu", "jackfield-cpu", "usable"),
        ("emulated", "jackfield-platforms", "usable"),
        ("strict", "jackfield-platforms", "usable"),
        ("strict-compiled", "jackfield-platforms", "usable"),
    ]
    assert [one["name"] for one in said["platforms"] if not one["by_name_only"]] == ["cpu"]
