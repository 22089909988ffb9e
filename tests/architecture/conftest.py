"""The tree as the architecture tests see it: distributions with their metadata, modules with their syntax trees."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]


class Module(NamedTuple):
    """One source file of a distribution."""

    path: Path
    text: str
    tree: ast.Module

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def imports(self) -> set[str]:
        """Top-level names that the module imports, wherever in the file."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
        return found


class Dist(NamedTuple):
    """A distribution: its folder, its package and what its pyproject.toml says."""

    folder: Path
    package: Path
    project: dict[str, Any]
    modules: list[Module]


def read(folder: Path) -> Dist:
    pyproject = tomllib.loads((folder / "pyproject.toml").read_text())
    (package,) = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    texts = [(path, path.read_text()) for path in sorted((folder / package).rglob("*.py"))]
    modules = [Module(path, text, ast.parse(text)) for path, text in texts]
    return Dist(folder, folder / package, pyproject["project"], modules)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def dists() -> dict[str, Dist]:
    """Every distribution of the workspace by name."""
    found = [
        read(path.parent) for path in sorted([*ROOT.glob("*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")])
    ]
    return {dist.project["name"]: dist for dist in found}


@pytest.fixture(scope="session")
def modules(dists) -> list[Module]:
    """Every source file of every distribution."""
    return [module for dist in dists.values() for module in dist.modules]


@pytest.fixture(scope="session")
def core(dists) -> list[Module]:
    return dists["jackfield"].modules
