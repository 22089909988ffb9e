"""The wheels, built and installed where no checkout is in sight."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "jackfield",
    "jackfield_attention",
    "jackfield_cpu",
    "jackfield_cuda",
    "jackfield_gpu",
    "jackfield_hpu",
    "jackfield_neuron",
    "jackfield_platforms",
    "jackfield_quantization",
    "jackfield_rocm",
    "jackfield_tpu",
    "jackfield_xla",
)


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


def test_the_pages_are_in_the_sdk_s_wheel_and_are_shown_out_of_it(wheels, run, clean, tmp_path):
    names = zipfile.ZipFile(wheels["jackfield_platforms"]).namelist()
    shipped = {name for name in names if name.startswith("jackfield_platforms/docs/")}
    assert shipped == {f"jackfield_platforms/docs/{path.name}" for path in (ROOT / "docs").glob("*.*")}
    text = (ROOT / "docs" / "tutorial.md").read_text()
    assert run(clean, "-m", "jackfield_platforms.documentation", "tutorial", cwd=tmp_path) == f"{text}\n"
    assert run(clean.parent / "jackfield", "docs", "tutorial", cwd=tmp_path) == f"{text}\n"


def test_the_command_runs_from_the_wheels(run, clean, tmp_path):
    where = run(clean, "-c", "import jackfield; print(jackfield.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(clean.parents[1])
    assert run(clean.parent / "jackfield", "--version", cwd=tmp_path) == "jackfield 0.1.0\n"


def test_plugins_are_found_through_their_entry_points(run, clean, tmp_path):
    said = json.loads(run(clean.parent / "jackfield", "platforms", "--json", cwd=tmp_path))
    dists = {one["name"]: one["dist"] for one in said["platforms"]}
    assert dists == {
        "cpu": "jackfield-cpu",
        "cuda": "jackfield-cuda",
        "cuda-interpreted": "jackfield-cuda",
        "emulated": "jackfield-platforms",
        "hpu": "jackfield-hpu",
        "hpu-emulated": "jackfield-hpu",
        "hpu-strict": "jackfield-hpu",
        "neuron": "jackfield-neuron",
        "neuron-cpu": "jackfield-neuron",
        "neuron-emulated": "jackfield-neuron",
        "neuron-strict": "jackfield-neuron",
        "rocm": "jackfield-rocm",
        "rocm-interpreted": "jackfield-rocm",
        "strict": "jackfield-platforms",
        "strict-compiled": "jackfield-platforms",
        "tpu": "jackfield-tpu",
        "tpu-cpu": "jackfield-tpu",
        "tpu-strict": "jackfield-tpu",
    }
    states = {one["name"]: one["state"] for one in said["platforms"]}
    assert "broken" not in states.values()
    assert {states[name] for name in ("cpu", "emulated", "strict", "strict-compiled")} == {"usable"}
    if states["cuda"] == states["rocm"] == "absent":  # no GPU here
        assert said["selected"] == "cpu"
