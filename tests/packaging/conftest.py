"""The wheels, and a clean environment with them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "platforms",
    "attention_backends",
    "quantization",
    "core",
    "gpu",
    "xla",
    "plugins/cpu",
    "plugins/cuda",
    "plugins/hpu",
    "plugins/neuron",
    "plugins/rocm",
    "plugins/tpu",
)


@pytest.fixture(scope="session")
def run():
    """`run(*command, cwd=folder)` gives what the command printed; it must end well."""
    return _run


def _run(*command, cwd):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JACKFIELD"))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
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
    _run(*build, *(str(ROOT / name) for name in FOLDERS), cwd=folder)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def clean(wheels, tmp_path_factory):
    """A fresh virtual environment with the wheels; third-party packages are those of this interpreter."""
    folder = tmp_path_factory.mktemp("clean")
    _run(sys.executable, "-m", "venv", str(folder / "venv"), cwd=folder)
    python = folder / "venv" / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", *map(str, wheels.values()), cwd=folder)
    own = _run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=folder).strip()
    paths = sysconfig.get_paths()
    (Path(own) / "third_party.pth").write_text(f"{paths['purelib']}\n{paths['platlib']}\n")
    return python
