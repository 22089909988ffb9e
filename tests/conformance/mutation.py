"""One mechanical change of a function: a flipped comparison, a constant one off, a dropped term, swapped operands."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any, NamedTuple

_FLIPPED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
_ORDERED = (ast.Sub, ast.FloorDiv, ast.Div, ast.MatMult)  # swapping the operands of others changes nothing


class Mutant(NamedTuple):
    """A change to one function of a module."""

    module: str
    function: str  # its qualified name in the module
    source: str  # the line that is changed
    column: int
    before: str
    after: str
    tree: ast.Module  # the whole module, changed

    @property
    def name(self) -> str:
        return f"{self.function}: {self.before} -> {self.after} at {self.column} of {self.source}"


def mutants(module: str) -> list[Mutant]:
    """Every mutant of a module's functions, in the order of the source."""
    path = importlib.import_module(module).__file__
    with open(path, encoding="utf-8") as file:
        source = file.read()
    found = []
    for index in range(len(_sites(ast.parse(source)))):
        for kind in range(2):
            tree = ast.parse(source)
            function, node = _sites(tree)[index]
            before = ast.unparse(node)
            if _change(node, kind):
                ast.fix_missing_locations(tree)
                line = source.splitlines()[node.lineno - 1]
                column = node.col_offset - (len(line) - len(line.lstrip()))
                found.append(Mutant(module, function, line.strip(), column, before, ast.unparse(node), tree))
    return found


def _sites(tree: ast.Module) -> list[tuple[str, ast.expr]]:
    return [(name, node) for name, function in _functions(tree.body, "") for node in _expressions(function)]


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node


def _expressions(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """What can be changed in the statements of a function: messages and subscripts of types are left alone."""
    left = [*function.body]
    while left:
        node = left.pop(0)
        if isinstance(node, (ast.JoinedStr, ast.Raise, ast.Assert)):
            continue
        if isinstance(node, (ast.Compare, ast.BinOp)) or (isinstance(node, ast.Constant) and type(node.value) is int):
            yield node
        left = [*ast.iter_child_nodes(node), *left]


def _change(node: ast.expr, kind: int) -> bool:
    """Change `node` in place in the first or second way that its type has; False where there is none."""
    if isinstance(node, ast.Compare) and kind == 0 and type(node.ops[0]) in _FLIPPED:
        node.ops[0] = _FLIPPED[type(node.ops[0])]()
    elif isinstance(node, ast.Constant):
        node.value += 1 if kind == 0 else -1
    elif isinstance(node, ast.BinOp) and kind == 0 and isinstance(node.op, (ast.Add, ast.Sub)):
        node.op, node.right = ast.Add(), ast.Constant(0)  # the second term is dropped
    elif isinstance(node, ast.BinOp) and kind == 1 and isinstance(node.op, _ORDERED):
        node.left, node.right = node.right, node.left
    else:
        return False
    return True


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The function runs the changed code, for everybody who holds it, until the end of the block."""
    function = _function_of(importlib.import_module(mutant.module), mutant.function)
    code = compile(mutant.tree, function.__code__.co_filename, "exec", dont_inherit=True)
    for name in mutant.function.split("."):
        code = next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name)
    kept, function.__code__ = function.__code__, code
    try:
        yield
    finally:
        function.__code__ = kept


def _function_of(module: Any, qualified: str) -> Any:
    *owners, name = qualified.split(".")
    holder = module
    for owner in owners:
        holder = getattr(holder, owner)
    found = vars(holder)[name]
    found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    return getattr(found, "__wrapped__", found)
