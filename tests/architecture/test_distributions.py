"""What every distribution must have, and on which others it may stand."""

from __future__ import annotations

import re
import sys

from jackfield.version import __version__

IMPORTED_AS = {
    "huggingface-hub": "huggingface_hub",
    "prometheus-client": "prometheus_client",
    "pyzmq": "zmq",
    **{
        f"jackfield-{name}": f"jackfield_{name}"
        for name in (
            "attention",
            "cpu",
            "cuda",
            "gpu",
            "hpu",
            "neuron",
            "platforms",
            "quantization",
            "rocm",
            "tpu",
            "xla",
        )
    },
}
# declared though no line imports them
INDIRECT = {
    "jackfield": {
        "jackfield-quantization",  # found through its entry point
    },
}

# imported only when a command needs it, and declared as an extra; by which folder
OPTIONAL = {
    "jackfield-platforms": {"pytest": "jackfield_platforms/testing/conformance"},
    "jackfield-attention": {"triton": "jackfield_attention/triton"},
    "jackfield-tpu": {"torch_xla": "jackfield_tpu"},
    "jackfield-xla": {"torch_xla": "jackfield_xla"},
}


def requirement_names(requirements):
    return {re.match(r"[A-Za-z0-9._-]+", requirement)[0].replace("_", "-") for requirement in requirements}


def test_the_workspace_has_these_distributions(dists):
    assert {
        "jackfield",
        "jackfield-platforms",
        "jackfield-attention",
        "jackfield-quantization",
        "jackfield-cpu",
        "jackfield-gpu",
        "jackfield-cuda",
        "jackfield-rocm",
        "jackfield-xla",
        "jackfield-hpu",
        "jackfield-neuron",
        "jackfield-tpu",
    } <= set(dists)


def test_each_has_a_licence_a_readme_and_says_that_it_is_typed(dists, root):
    licence = (root / "LICENSE").read_text()
    assert "Apache License" in licence
    for dist in dists.values():
        assert (dist.folder / "LICENSE").read_text() == licence
        assert dist.project["license"] == "Apache-2.0"
        assert (dist.folder / "README.md").read_text().startswith(f"# {dist.project['name']}\n")
        assert (dist.package / "py.typed").exists()
        assert dist.project["requires-python"] == ">=3.10"


def test_all_are_of_one_version(dists):
    assert {dist.project.get("version", __version__) for dist in dists.values()} == {__version__}


def test_torch_has_one_floor_that_gpus_raise(dists):
    floors = {
        name: [one for one in dist.project["dependencies"] if one.startswith("torch")] for name, dist in dists.items()
    }
    raised = {"jackfield-gpu", "jackfield-cuda", "jackfield-rocm"}  # that of Triton 3.6
    assert floors == {name: ["torch>=2.10" if name in raised else "torch>=2.9"] for name in dists}


def test_no_plugin_depends_on_the_core_or_imports_it(dists):
    plugins = {name: dist for name, dist in dists.items() if dist.folder.parent.name == "plugins"}
    assert plugins
    for dist in plugins.values():
        assert "jackfield" not in requirement_names(dist.project["dependencies"])
        assert [str(module) for module in dist.modules if "jackfield" in module.imports] == []


def test_the_core_imports_no_plugin(dists):
    packages = {dist.package.name for dist in dists.values() if dist.folder.parent.name == "plugins"}
    assert packages
    assert [str(module) for module in dists["jackfield"].modules if packages & module.imports] == []


def test_what_is_imported_is_declared_and_what_is_declared_is_imported(dists):
    for name, dist in dists.items():
        imported = (
            set().union(*(module.imports for module in dist.modules)) - sys.stdlib_module_names - {dist.package.name}
        )
        declared = requirement_names(dist.project["dependencies"]) - INDIRECT.get(name, set())
        expected = {IMPORTED_AS.get(one, one) for one in declared}
        assert (name, imported - expected) == (name, set(OPTIONAL.get(name, {})))
        assert (name, expected - imported) == (name, set())


def test_what_is_optional_is_an_extra_and_imported_by_one_folder(dists):
    for name, folders in OPTIONAL.items():
        extras = dists[name].project["optional-dependencies"].values()
        named = {name.replace("-", "_") for name in requirement_names(one for extra in extras for one in extra)}
        assert set(folders) <= named
        for imported, folder in folders.items():
            users = [module for module in dists[name].modules if imported in module.imports]
            assert users
            assert [str(module) for module in users if f"/{folder}/" not in module.path.as_posix()] == []


def test_every_device_of_the_design_has_an_extra(dists):
    extras = dists["jackfield"].project["optional-dependencies"]
    for device in ("cpu", "cuda", "rocm", "hpu", "tpu", "neuron"):
        assert extras[device] == [f"jackfield-{device}~=0.1.0"]


def test_a_probe_has_a_plugin_of_the_same_name(dists):
    for dist in dists.values():
        points = dist.project.get("entry-points", {})
        assert set(points.get("jackfield.probes", {})) <= set(points.get("jackfield.plugins", {}))
