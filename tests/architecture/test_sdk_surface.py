"""What a plugin may rely on, as text: a change to it is seen in a review, and is never made by accident.

`make surface` (this file, run as a script) writes `sdk_surface.txt` anew.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SDK = ROOT / "platforms" / "jackfield_platforms"
SNAPSHOT = Path(__file__).with_name("sdk_surface.txt")
APART = {"testing", "plugin_template"}  # the kit and the emulated devices are run, not imported; a skeleton is copied
MARKS = {"abstractmethod", "classmethod", "staticmethod", "property", "hookspec"}
SPECIAL = {"__init__", "__call__"}


def surface(sdk: Path) -> str:
    """Public names of every module of the SDK: values, functions with their signatures, classes with their members."""
    lines = ["# The SDK's public names. `make surface` writes this anew; docs/plugins.md says what API_VERSION means."]
    for path in sorted(sdk.rglob("*.py")):
        parts = path.relative_to(sdk.parent).with_suffix("").parts
        if APART.isdisjoint(parts):
            found = list(members(ast.parse(path.read_text(encoding="utf-8")).body))
            lines += (
                ["", ".".join(parts).removesuffix(".__init__"), *(f"    {line}" for line in found)] if found else []
            )
    return "\n".join(lines) + "\n"


def members(body: list[ast.stmt]) -> Iterator[str]:
    """One line for each public name, in the order of the source, which is that of a struct's fields."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_public(node.name):
            yield signature(node)
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            heads = [*map(ast.unparse, node.bases), *map(ast.unparse, node.keywords)]
            marks = "".join(f"@{ast.unparse(mark)} " for mark in node.decorator_list)
            yield f"{marks}class {node.name}({', '.join(heads)})"
            yield from (f"    {line}" for line in members(node.body))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if all(is_public(ast.unparse(target)) for target in targets):
                yield ast.unparse(node)


def is_public(name: str) -> bool:
    return not name.startswith("_") or name in SPECIAL


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    marks = [name for mark in node.decorator_list if (name := ast.unparse(mark).rpartition(".")[2]) in MARKS]
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"{''.join(f'@{mark} ' for mark in marks)}{node.name}({ast.unparse(node.args)}){returns}"


def changes(before: str, after: str) -> str:
    """A readable difference, empty where there is none."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "sdk_surface.txt", "the sources", n=2, lineterm=""
    )
    return "\n".join(lines)


def test_the_surface_is_the_one_that_was_written_down():
    told = changes(SNAPSHOT.read_text(encoding="utf-8"), surface(SDK))
    if told:
        pytest.fail(
            f"The SDK's public names have changed:\n{told}\n"
            f"If that is meant, run `make surface`, say in docs/news/ what plugins must change, and raise the minor "
            f"number of API_VERSION where a plugin that was right before no longer is.",
            pytrace=False,
        )


def test_it_holds_what_plugins_are_found_and_written_by():
    said = SNAPSHOT.read_text(encoding="utf-8")
    for line in (
        "API_VERSION = (0, ",
        "PROBES = 'jackfield.probes'",
        "PLUGINS = 'jackfield.plugins'",
        "@abstractmethod capabilities(self) -> Capabilities",
        "@hookspec platforms(self)",
        "class Bucket(msgspec.Struct, frozen=True)",
        "query_len: int | None = None",
    ):
        assert line in said


BEFORE = """
LIMIT = 3
class Sizes(Struct):
    rows: int
    tokens: int = 0
    def fits(self, need: int) -> bool: ...
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("LIMIT = 3", "LIMIT = 4"), ["-    LIMIT = 3", "+    LIMIT = 4"]),
        (("    rows: int\n", ""), ["-        rows: int"]),
        (("tokens: int = 0", "tokens: int = 1"), ["-        tokens: int = 0", "+        tokens: int = 1"]),
        (
            ("need: int)", "need: int, *, slack: int = 0)"),
            ["-        fits(self, need: int) -> bool", "+        fits(self, need: int, *, slack: int=0) -> bool"],
        ),
        (("class Sizes(Struct)", "class Sizes(Struct, frozen=True)"), ["+    class Sizes(Struct, frozen=True)"]),
    ],
)
def test_a_change_would_be_told(change, told, tmp_path):
    module = tmp_path / "sdk" / "sizes.py"
    module.parent.mkdir()
    module.write_text(BEFORE)
    before = surface(module.parent)
    module.write_text(BEFORE.replace(*change))
    assert set(told) <= set(changes(before, surface(module.parent)).splitlines())


def test_what_is_private_may_change(tmp_path):
    module = tmp_path / "sdk" / "sizes.py"
    module.parent.mkdir()
    module.write_text(BEFORE)
    before = surface(module.parent)
    module.write_text(BEFORE + "    def _cut(self): ...\ndef _helper(): ...\n_SIZE = 3\n")
    assert surface(module.parent) == before


if __name__ == "__main__":
    SNAPSHOT.write_text(surface(SDK), encoding="utf-8")
