"""Who may import whom, and what an import brings along."""

from __future__ import annotations

import json
import subprocess
import sys

BASE = ["torch", "numpy", "pluggy", "msgspec"]
IMPORT = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(list(sys.modules)))
"""


def loaded_by(*modules):
    """Top-level names that a fresh interpreter holds after importing `modules`."""
    done = subprocess.run([sys.executable, "-c", IMPORT, *modules], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def names_of(dist):
    """Modules, but for those that need an extra."""
    base = [module for module in dist.modules if "triton" not in module.path.parts]
    relative = (module.path.relative_to(dist.folder).with_suffix("") for module in base)
    return [".".join(path.parts).removesuffix(".__init__") for path in relative]


def test_the_contracts_hold(root):
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_sdk_loads_nothing_heavier_than_torch(dists):
    sdk = [dists[f"jackfield-{name}"] for name in ("platforms", "attention", "quantization")]
    base = loaded_by(*BASE)
    assert "torch" in base
    allowed = base | {dist.package.name for dist in sdk} | sys.stdlib_module_names
    assert loaded_by(*BASE, *(name for dist in sdk for name in names_of(dist))) <= allowed


def test_probing_and_selecting_load_no_framework(dists):
    light = {f"jackfield_platforms.{name}" for name in ("asking", "discovery", "launching", "probe", "selection")}
    assert light <= set(names_of(dists["jackfield-platforms"]))
    assert not loaded_by(*light) & {"torch", "numpy", "transformers"}


def test_our_probes_load_no_framework(dists):
    points = [dist.project.get("entry-points", {}).get("jackfield.probes", {}) for dist in dists.values()]
    probes = [module for point in points for module in point.values()]
    assert probes
    assert not loaded_by(*probes) & {"torch", "numpy", "transformers"}
