"""The vendor's packages as metadata tells of them: PyPI's placeholders of the same names are told apart."""

from __future__ import annotations

import sys

import pytest

from jackfield_neuron import software
from jackfield_neuron.software import INDEX, Package, Software
from jackfield_xla import software as xla

XLA = xla.Software("2.9.0", "2.9.0")
READY = Software(
    Package("torch-neuronx", "installed", "2.9.0.2.11.1"), Package("neuronx-cc", "installed", "2.22.1"), XLA
)


def install(folder, name, version, description="", module=None):
    """A distribution as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n{description}\n")
    if module is not None:
        (folder / module).mkdir()
        (folder / module / "__init__.py").write_text("raise AssertionError('nobody imports it')")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def test_what_is_not_there_is_missing_and_the_vendor_s_index_is_named():
    found = software.package("torch-neuronx")
    assert found == Package("torch-neuronx", "missing")
    assert found.lacks().startswith("torch-neuronx is not installed; pip install --extra-index-url=https://pip.repos.")


@pytest.mark.parametrize(
    ("name", "version", "module"),
    [("torch-neuronx", "1.0", "torch_neuronx"), ("neuronx-cc", "1.0.post1", "neuronx-cc"), ("nki", "0.0.1", "nki")],
)
def test_pypi_s_placeholder_is_told_from_the_package_by_its_description(site, name, version, module):
    install(site, name, version, f"WRONG PACKAGE. Please install the package from Neuron Repository - {INDEX}", module)
    found = software.package(name)
    assert found == Package(name, "placeholder", version)
    assert found.lacks().startswith(f"{name} {version} is PyPI's placeholder, not the vendor's package; pip uninstall")


def test_the_vendor_s_package_is_taken_without_importing_it(site):
    install(site, "torch-neuronx", "2.9.0.2.11.1", "PyTorch for Neuron", "torch_neuronx")
    assert software.package("torch-neuronx") == Package("torch-neuronx", "installed", "2.9.0.2.11.1")
    assert software.package("torch-neuronx").lacks() is None


def test_a_package_without_its_module_is_broken(site):
    install(site, "neuronx-cc", "2.22.1")
    assert software.package("neuronx-cc") == Package("neuronx-cc", "broken", "2.22.1")
    assert "without its module neuronxcc" in software.package("neuronx-cc").lacks()


def test_software_that_goes_together_lacks_nothing():
    assert READY.lacks() is None
    assert READY.describe() == "torch-neuronx 2.9.0.2.11.1, neuronx-cc 2.22.1, torch 2.9.0, torch-xla 2.9.0"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (Software(Package("torch-neuronx", "missing"), READY.compiler, XLA), "torch-neuronx is not installed"),
        (Software(READY.torch_neuronx, Package("neuronx-cc", "missing"), XLA), "neuronx-cc is not installed"),
        (Software(Package("torch-neuronx", "installed", "2.14.0"), READY.compiler, XLA), "2.14.0 has left torch-xla"),
        (Software(READY.torch_neuronx, READY.compiler, xla.Software("2.13.0", None)), "torch-xla is not installed"),
        (Software(READY.torch_neuronx, READY.compiler, xla.Software("2.13.0", "2.9.0")), "torch 2.13.0 is installed"),
    ],
    ids=["no torch-neuronx", "no compiler", "another backend", "no torch-xla", "another torch"],
)
def test_what_is_wrong_is_told(changed, why):
    assert why in changed.lacks()
