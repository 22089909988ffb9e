"""Prose out of docstrings, comments and help topics: paragraphs of plain sentences; no markup, code or doctests."""

import ast
import re
import textwrap
from collections.abc import Iterable

MARKUP = (
    (re.compile(r":[\w:+-]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`"), r"\1"),  # :func:`name <target>`
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_*"), r"\1"),  # `text <address>`_
    (re.compile(r"``([^`]+)``"), r"\1"),
    (re.compile(r"`([^`']+)[`']"), r"\1"),
    (re.compile(r"(?<!\w)\*{1,2}(?=[^\s*])([^*]+?)(?<=\S)\*{1,2}(?!\w)"), r"\1"),  # *emphasis*
    (re.compile(r"(?<!\w)_(\w[^_]*)_(?!\w)"), r"\1"),
    (re.compile(r"\[\d+\]_?"), ""),  # footnote marks
    (re.compile(r"::(?=\s|$)"), ":"),
    (re.compile(r"^\.\. (?:[\w-]+:: ?)?"), ""),  # directives
    (re.compile(r"\s+"), " "),
)
RULE = re.compile(r"^\s*#*\s*([=\-*~^\"#+_])\1{2,}.*$")
ITEM = re.compile(r"^\s*(?:[*+•-]|o|\d+[.)])\s+")
SIGNATURE = re.compile(r"^[\w.]+\(.*\)\s*(?:->.*|[:=-]+)?$")
ASCII = str.maketrans(dict(zip("\u201c\u201d\u2018\u2019\u2013\u2014", "\"\"''--", strict=True)) | {"\u2026": "..."})
NOT_PROSE = re.compile(r"(?m)^\s*(?:>>>|\.\.\. |\$ |% )|::=|https?://\S+$|\$Id|@|\|\s*\||={2}|[{}\\]")
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


def words(text: str) -> list[str]:
    """The words of a text in lower case: runs of letters, with at most one apostrophe."""
    return [word.lower() for word in WORD.findall(text)]


def paragraphs(text: str) -> list[str]:
    """The prose paragraphs of a raw text; list items become paragraphs of one line that begins with a dash."""
    blocks = re.split(r"\n[ \t]*\n", text.translate(ASCII).expandtabs().strip("\n"))
    return [paragraph for block in blocks for paragraph in _reflow(block) if is_prose(paragraph)]


def flow(parts: Iterable[str]) -> str:
    """Paragraphs as one text: a blank line between them, but a plain line break between the items of a list."""
    return re.sub(r"(?m)^(- .*)\n\n(?=- )", r"\1\n", "\n\n".join(parts))


def is_prose(paragraph: str) -> bool:
    """True for sentences of at least five words that are mostly letters and begin like a sentence or a list item."""
    text = paragraph.removeprefix("- ")
    if len(WORD.findall(text)) < 5 or not re.match(r"[A-Z\"'(]|[a-z]+ [a-z]", text):
        return False
    letters = sum(character.isalpha() or character == " " for character in text)
    return text.isascii() and letters / len(text) > 0.86 and max(map(len, text.split())) < 40


def _reflow(block: str) -> list[str]:
    """One block of raw lines as paragraphs of one line each."""
    lines = [line for line in block.splitlines() if not RULE.match(line)]
    if NOT_PROSE.search("\n".join(lines)) or _is_code(lines):
        return []
    pieces: list[list[str]] = [[]]
    for line in lines:
        if SIGNATURE.match(line.strip()):
            pieces.append([])
        elif ITEM.match(line):
            pieces.append(["- " + ITEM.sub("", line)])
        else:
            pieces[-1].append(line.strip())
    return [_plain(" ".join(piece)) for piece in pieces if piece]


def _plain(text: str) -> str:
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip()


def _is_code(lines: list[str]) -> bool:
    """Text that Python can parse is code: English sentences are syntax errors."""
    try:
        ast.parse(textwrap.dedent("\n".join(lines)))
    except (SyntaxError, ValueError):
        return False
    return True
