"""Which GPUs the installed torch is built for, read from its files: a probe must not import it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import msgspec


class TorchBuild(msgspec.Struct, frozen=True):
    """What torch says of itself in `torch/version.py`. None: not built for that."""

    version: str
    cuda: str | None = None
    hip: str | None = None

    def describe(self) -> str:
        """For people: `torch 2.13.0+cpu, built for the CPU alone`."""
        built = [f"{name} {version}" for name, version in (("CUDA", self.cuda), ("ROCm", self.hip)) if version]
        return f"torch {self.version}, built for {' and '.join(built) or 'the CPU alone'}"


def installed_torch() -> TorchBuild | None:
    """The torch that `import torch` would take, or None. Nothing is imported."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    return read_build(Path(spec.origin).with_name("version.py"))


def read_build(path: Path) -> TorchBuild | None:
    """What a `version.py` assigns literally; None where the file is not there or says no version."""
    if not path.is_file():
        return None
    values = dict(_strings(ast.parse(path.read_text(encoding="utf-8"))))
    version = values.get("__version__")
    return None if version is None else TorchBuild(version, values.get("cuda"), values.get("hip"))


def _strings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that are assigned literal strings, `cuda: Optional[str] = '13.0'` among them."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign):
            target: ast.expr = node.target
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        else:
            continue
        value = node.value
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield target.id, value.value
