"""`python -m jackfield_platforms.documentation [PAGE]`: the pages of docs/, for a vendor who has the wheel alone.

`jackfield docs` calls the same code. The pages are the folder `docs` beside this file; in the repository that is a link
to docs/ itself, so that there is one text. Imports no torch.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

_FOLDER = Path(__file__).parent / "docs"


class NoSuchPageError(ValueError):
    """There is no page of that name. The message says which there are."""


def page(name: str) -> str:
    """The text of a page, in Markdown; its name may end in `.md`, as links to it do. NoSuchPageError names others."""
    found = _pages()
    wanted = name.removesuffix(".md")
    if wanted not in found:
        near = difflib.get_close_matches(wanted, found, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise NoSuchPageError(f"There is no page {name!r}.{hint} There are {', '.join(found)}.")
    return found[wanted].read_text(encoding="utf-8")


def contents() -> str:
    """Every page with its title, those for who writes a plugin first, and where the files lie."""
    found = _pages()
    width = max(map(len, found))
    lines = [f"{name:<{width}}  {page(name).partition(chr(10))[0].removeprefix('# ')}" for name in found]
    return "\n".join([*lines, f"They lie in {_FOLDER}"])


def _pages() -> dict[str, Path]:
    first = ("tutorial", "plugins", "conformance", "buckets", "attention")
    paths = {path.stem: path for path in sorted(_FOLDER.glob("*.md"))}
    return {name: paths[name] for name in [*first, *(name for name in paths if name not in first)] if name in paths}


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and print; 2 when there is no such page."""
    about = "Print a page of the documentation, or without PAGE the names of all."
    parser = argparse.ArgumentParser("python -m jackfield_platforms.documentation", description=about)
    parser.add_argument("page", nargs="?", help="its name: tutorial, plugins, conformance, ...")
    given = parser.parse_args(words)
    try:
        print(contents() if given.page is None else page(given.page))
    except NoSuchPageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
