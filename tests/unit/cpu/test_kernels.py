"""Finding, choosing and building the kernels; the threads that they share."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import native_levels
import pytest
import torch

from jackfield_cpu.kernels import LIBRARY, load
from jackfield_cpu.native_linear import NativeLinear
from jackfield_platforms.linear import Encoded, Encoding

HOOK = Path(__file__).parents[3] / "plugins" / "cpu" / "hatch_build.py"
SAYS = "from jackfield_cpu.platform import CpuPlatform; print(CpuPlatform().describe())"


def said(**env):
    environ = {**os.environ, **env}
    return subprocess.run([sys.executable, "-c", SAYS], env=environ, capture_output=True, text=True, check=False)


def test_a_level_is_chosen_by_name_or_refused():
    level = native_levels.levels()[-1]
    assert f"{level} kernels" in said(JACKFIELD_CPU_KERNELS=level).stdout
    assert "kernels of our own" not in said(JACKFIELD_CPU_KERNELS=level).stdout
    refused = said(JACKFIELD_CPU_KERNELS="avx9")
    assert refused.returncode != 0
    others = "'none', 'torch.compile'"
    assert (
        f"must name kernels that were built and that the system lets run, or be one of {others}; got 'avx9'"
        in refused.stderr
    )


def test_without_kernels_the_start_names_what_is_missing_and_what_it_costs():
    told = said(JACKFIELD_CPU_KERNELS="none").stdout
    assert "no kernels of our own (JACKFIELD_CPU_KERNELS=none): linear and decoder layers, attention" in told
    assert "a third of the tokens a second" in told
    compiled = said(JACKFIELD_CPU_KERNELS="torch.compile").stdout
    assert "torch.compile instead of kernels" in compiled
    assert "plain torch" not in compiled


def test_intels_extension_is_refused_with_the_reason():
    refused = said(JACKFIELD_CPU_KERNELS="ipex")
    assert refused.returncode != 0
    assert "none of its releases (the last is 2.8.0) works with torch" in refused.stderr


def test_a_missing_or_broken_library_is_told(tmp_path):
    assert "built without a C++ compiler" in load(tmp_path / "none.so", "", 1)
    (tmp_path / "broken.so").write_bytes(b"not a library")
    assert "broken.so cannot be loaded" in load(tmp_path / "broken.so", "", 1)


def hook(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("hatch_build", HOOK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv(module.SWITCH, raising=False)
    return module


def test_without_a_compiler_nothing_is_built_unless_it_is_required(monkeypatch, tmp_path, capsys):
    module = hook(monkeypatch, tmp_path)
    assert module.build(tmp_path / "library.so") is False
    assert "no C++ compiler found" in capsys.readouterr().err
    monkeypatch.setenv(module.SWITCH, "require")
    with pytest.raises(SystemExit, match="wanted a C"):
        module.build(tmp_path / "library.so")
    monkeypatch.setenv(module.SWITCH, "perhaps")
    with pytest.raises(SystemExit, match="must be 'skip', 'require' or unset; got 'perhaps'"):
        module.build(tmp_path / "library.so")


def test_a_library_newer_than_its_sources_is_kept_and_a_failed_build_is_an_error(monkeypatch, tmp_path):
    module = hook(monkeypatch, tmp_path)
    target = tmp_path / "library.so"
    target.write_bytes(b"new")
    assert module.build(target) is True
    assert target.read_bytes() == b"new"
    os.utime(target, (0, 0))
    monkeypatch.setenv("CXX", f"{sys.executable} -c 'raise(SystemExit(3))'")
    with pytest.raises(SystemExit):
        module.build(target)
    assert target.read_bytes() == b"new"


def test_callers_on_many_threads_take_turns():
    op = NativeLinear(native_levels.kernels_of(native_levels.levels()[0], 3))
    packed = op.pack(Encoded(Encoding("float", 32), torch.eye(64)))
    wrong = []

    def work(number):
        x = torch.full((20, 64), float(number))
        wrong.extend(number for _ in range(50) if not torch.equal(op.apply(x, packed), x))

    callers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_a_forked_child_has_a_pool_of_its_own():
    op = NativeLinear(native_levels.kernels_of(native_levels.levels()[0], 3))
    packed = op.pack(Encoded(Encoding("float", 32), torch.eye(64)))
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(op.apply(torch.ones(20, 64), packed), torch.ones(20, 64)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_library_is_there():
    assert LIBRARY.exists(), "these tests want a C++ compiler; install one and run ci/install test"
