"""The raw text: what a Python installation says about itself. Nothing is fetched; the running interpreter is read."""

import ast
import contextlib
import importlib
import inspect
import io
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

from corpus import Document, Entry, Kind
from prose import paragraphs

LIBRARY = Path(sysconfig.get_path("stdlib"))
SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "_bundled", "pydoc_data"}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BLOCK_TAGS = {"p", "li", "dd", "dt", "h1", "h2", "h3", "h4", "div", "pre", "table", "tr"}


def documents() -> Iterator[Document]:
    """Everything, best text first: where two documents share a paragraph, the earlier one keeps it."""
    yield from topics()
    yield from sources()
    yield from extensions()
    yield from texts()


def topics() -> Iterator[Document]:
    """The topics of help(), short before long: chapters repeat sections. A signature on its own begins a new entry."""
    topics = importlib.import_module("pydoc_data.topics").topics
    for topic, text in sorted(topics.items(), key=lambda item: len(item[1])):
        parts = re.split(r"(?m)^(?:class |exception )?([\w.]+)\((?:[^()\n]|\(\))*\)$", text)
        entries = [_entry(topic, "topic", parts[0])]
        entries += [_entry(name, "function", body) for name, body in zip(parts[1::2], parts[2::2], strict=True)]
        yield Document(f"help({topic!r})", tuple(entry for entry in entries if entry.paragraphs))


def sources() -> Iterator[Document]:
    """Docstrings and comments of the standard library's Python files, parsed and not imported."""
    for path in sorted(LIBRARY.rglob("*.py")):
        place = path.relative_to(LIBRARY)
        if SKIPPED.isdisjoint(place.parts):
            name = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
            source = path.read_text(encoding="utf-8", errors="ignore")
            entries = (*_docstrings(name, source), _entry("", "note", "\n\n".join(_comments(source))))
            yield Document(name, tuple(entry for entry in entries if entry.paragraphs))


def extensions() -> Iterator[Document]:
    """Docstrings of the built-in and the compiled modules, which have no Python source."""
    compiled = {path.name.partition(".")[0] for path in (LIBRARY / "lib-dynload").glob("*.so")}
    for name in sorted({*sys.builtin_module_names, *compiled}):
        if "test" not in name and not name.startswith("xx"):
            with warnings.catch_warnings(action="ignore"), contextlib.suppress(ImportError):
                module = importlib.import_module(name)
                yield Document(name, tuple(entry for entry in _members(module) if entry.paragraphs))


def texts() -> Iterator[Document]:
    """The text files that come with the library: IDLE's help and notes, the email package's architecture, the Zen."""
    for path in sorted((*LIBRARY.glob("idlelib/*.txt"), *LIBRARY.glob("email/*.rst"), *LIBRARY.glob("LICENSE.txt"))):
        text = path.read_text(encoding="utf-8", errors="ignore")
        yield Document(path.name, (_entry("", "note", text),))
    yield Document("IDLE help", (_entry("", "note", _Page.read(LIBRARY / "idlelib" / "help.html")),))
    with contextlib.redirect_stdout(io.StringIO()) as zen:
        importlib.import_module("this")
    lines = [line for line in zen.getvalue().splitlines()[1:] if line]
    yield Document("this", (Entry("The Zen of Python", "topic", tuple(lines)),))


def _entry(subject: str, kind: Kind, text: str) -> Entry:
    return Entry(subject, kind, tuple(dict.fromkeys(paragraphs(text))))


def _docstrings(name: str, source: str) -> Iterator[Entry]:
    with warnings.catch_warnings(action="ignore"):
        tree = ast.parse(source)
    yield _entry(name, "module", ast.get_docstring(tree) or "")
    yield from _definitions(name, tree)


def _definitions(name: str, parent: ast.AST) -> Iterator[Entry]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, DEFINITIONS):
            inner = f"{name}.{node.name}"
            kind: Kind = "class" if isinstance(node, ast.ClassDef) else "function"
            yield _entry(inner, kind, ast.get_docstring(node) or "")
            yield from _definitions(inner, node)
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions(name, node)


def _comments(source: str) -> list[str]:
    """Blocks of comment lines, without the marks."""
    blocks = re.findall(r"(?m)(?:^[ \t]*#.*\n){2,}", source)
    return [re.sub(r"(?m)^[ \t]*#+:?[ \t]?", "", block) for block in blocks]


def _members(module: ModuleType) -> Iterator[Entry]:
    yield _entry(module.__name__, "module", _own_doc(module))
    prefix = "" if module.__name__ == "builtins" else f"{module.__name__}."
    for name, member in sorted(vars(module).items()):
        if inspect.isclass(member):
            yield _entry(prefix + name, "class", _own_doc(member))
            for method, function in sorted(vars(member).items()):
                yield _entry(f"{prefix}{name}.{method}", "function", _own_doc(function))
        elif inspect.isroutine(member):
            yield _entry(prefix + name, "function", _own_doc(member))


def _own_doc(member: object) -> str:
    text = getattr(member, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


class _Page(HTMLParser):
    """The text of a page, a blank line between blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    @classmethod
    def read(cls, path: Path) -> str:
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        return "".join(page.parts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCK_TAGS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        self.parts.append(data)
