"""How the sources are cut: small files, named for what they hold, without swallowed errors and hidden state."""

from __future__ import annotations

import ast
import statistics

import pytest

MAX_LINES, MAX_MODEL_LINES, MAX_FOLDERS = 400, 200, 3
NAMELESS = {"utils", "util", "misc", "common", "helpers", "helper"}


def swallowed(tree: ast.AST) -> list[int]:
    """Lines of handlers that catch everything and do nothing."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = "BaseException" if node.type is None else ast.unparse(node.type)
            idle = all(isinstance(step, (ast.Pass, ast.Continue)) or ast.unparse(step) == "..." for step in node.body)
            if idle and caught in ("Exception", "BaseException"):
                found.append(node.lineno)
    return found


def test_files_are_small(modules):
    lengths = {str(module): len(module.text.splitlines()) for module in modules}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}
    assert statistics.median(lengths.values()) <= 120


def test_a_model_is_short(core):
    models = {str(module): len(module.text.splitlines()) for module in core if module.path.parent.name == "models"}
    assert models
    assert {path: length for path, length in models.items() if length > MAX_MODEL_LINES} == {}


def test_every_module_is_named_for_what_it_holds(modules):
    assert [str(module) for module in modules if NAMELESS & {module.path.stem, *module.path.parts}] == []


def test_packages_are_flat(dists):
    for dist in dists.values():
        deep = [
            str(module) for module in dist.modules if len(module.path.relative_to(dist.package).parts) > MAX_FOLDERS
        ]
        assert deep == []


def test_every_module_says_what_it_is(modules):
    assert [str(module) for module in modules if not ast.get_docstring(module.tree)] == []


def test_no_error_is_swallowed(modules):
    found = {str(module): swallowed(module.tree) for module in modules}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("handler", ["except Exception: pass", "except: ...", "except BaseException: continue"])
def test_a_swallowed_error_would_be_found(handler):
    assert swallowed(ast.parse(f"for _ in x:\n  try: f()\n  {handler}"))


def test_no_function_rebinds_a_module_s_state(modules):
    found = {
        str(module): [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Global)]
        for module in modules
    }
    assert {path: lines for path, lines in found.items() if lines} == {}
