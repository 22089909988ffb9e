"""Versions of torch and torch-xla, read from metadata, and what is said when they clash."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jackfield_xla.software import Software, installed, is_installed


def distribution(folder, name, version):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("torch", "torch_xla"), [("2.9.0", "2.9.0"), ("2.9.1+cpu", "2.9.0"), ("2.10.0", "2.10.1"), ("2.9.0", "2.9.0+git1")]
)
def test_releases_of_one_number_go_together(torch, torch_xla):
    assert Software(torch, torch_xla).lacks() is None


def test_a_clash_names_both_versions_and_what_to_install():
    reason = Software("2.13.0+cpu", "2.9.0").lacks()
    assert "torch-xla 2.9.0 is built for torch 2.9" in reason
    assert "torch 2.13.0+cpu is installed" in reason
    assert "environment of their own" in reason


@pytest.mark.parametrize(("torch", "torch_xla"), [("2.9.0", "2.10.0"), ("2.19.0", "2.1.0"), ("3.9.0", "2.9.0")])
def test_any_other_pair_clashes(torch, torch_xla):
    assert "is built for torch" in Software(torch, torch_xla).lacks()


def test_what_is_missing_is_said():
    assert Software("2.9.0", None).lacks() == "torch-xla is not installed"
    assert "install torch 2.9" in Software(None, "2.9.0").lacks()
    assert Software("2.9.0", None).describe() == "torch 2.9.0, torch-xla missing"


def test_versions_are_those_of_the_first_distribution_on_the_path(tmp_path, monkeypatch):
    distribution(tmp_path, "torch", "9.8.7")
    distribution(tmp_path, "torch_xla", "9.8.6")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed() == Software("9.8.7", "9.8.6")


def test_a_module_is_found_and_not_imported(tmp_path, monkeypatch):
    (tmp_path / "raises_when_imported.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert is_installed("raises_when_imported")
    assert not is_installed("no_such_module_anywhere")


def test_asking_imports_neither_torch_nor_torch_xla():
    code = (
        "import sys; from jackfield_xla.software import installed; installed().lacks(); "
        "import jackfield_xla.host_probe; sys.exit(bool({'torch', 'torch_xla', 'numpy'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
