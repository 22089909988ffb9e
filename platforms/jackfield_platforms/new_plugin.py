"""`python -m jackfield_platforms.new_plugin NAME`: the skeleton of a plugin, for a vendor who has the SDK alone.

`jackfield new-plugin` calls the same code. The skeleton is the folder `plugin_template` beside this file, with another
name in it; in the repository that is a link to `examples/plugin-template`, so that the two are one. Imports no torch.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jackfield_platforms.discovery import PROBES, installed

_TEMPLATE = Path(__file__).parent / "plugin_template"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OURS = ("attention", "platforms", "quantization")  # jackfield-<name> is a distribution of ours
_LONGEST = 40


class NewPluginError(ValueError):
    """The skeleton cannot be written. The message says what was wanted, what was found and what to do."""


def write_plugin(name: str, into: Path) -> Path:
    """Write the skeleton of platform `name` as a new folder `jackfield-<name>` in `into`, and return that folder.

    The package is `jackfield_<name>`, with `_` for `-`. NewPluginError for a name that cannot be one or is taken, and
    for a folder that is there already: nothing is ever overwritten.
    """
    _check(name)
    if not into.is_dir():
        raise NewPluginError(f"Wanted a folder to write the plugin into; there is no {into}. Make it first.")
    folder = into / f"jackfield-{name}"
    if folder.exists():
        raise NewPluginError(f"Wanted to make {folder}; it is there already. Move it away, or choose another name.")
    renamed = _renaming(name)
    for path in _files(_TEMPLATE):
        target = folder / renamed(path.relative_to(_TEMPLATE).as_posix())
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
    return folder


def next_steps(name: str, folder: Path) -> str:
    """What a person does with the folder that `write_plugin` made."""
    files = "\n".join(f"  {path.relative_to(folder).as_posix()}" for path in _files(folder))
    return (
        f"Wrote {folder}:\n{files}\n"
        f"Next:\n"
        f"  pip install -e {folder}\n"
        f"  python -m jackfield_platforms.testing.conformance {name}\n"
        f"  python -m jackfield_platforms.documentation tutorial"
    )


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise NewPluginError(
            f"Wanted a name of lower-case letters and digits, with single '-' between words, that starts with a letter "
            f"and has at most {_LONGEST} characters; got {name!r}. It becomes what --platform takes: 'falcon'."
        )
    if name in _OURS:
        raise NewPluginError(f"jackfield-{name} is a distribution of Jackfield itself; choose another name.")
    for point in installed(PROBES):
        if point.name == name:
            owner = point.dist.name if point.dist is not None else point.module
            raise NewPluginError(
                f"A platform named {name!r} is installed already, by {owner}; two of one name could not be selected. "
                f"Choose another name."
            )


def _renaming(name: str) -> Callable[[str], str]:
    """Replaces the example's name in its four forms, in one pass, so that a name may contain the old one."""
    words = name.split("-")
    package = "_".join(words)
    forms = {
        "jackfield_gadget": f"jackfield_{package}",
        "Gadget": "".join(word.capitalize() for word in words),
        "GADGET": package.upper(),
        "gadget": name,
    }
    pattern = re.compile("|".join(forms))
    return lambda text: pattern.sub(lambda found: forms[found[0]], text)


def _files(folder: Path) -> Iterator[Path]:
    """Its files, without what Python and tools leave there."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix != ".pyc":
            yield path


def main(words: Sequence[str] | None = None) -> int:
    """Parse the command line and write; 0 when done, 2 when it cannot be."""
    about = "Write a complete plugin for a platform NAME into a new folder, to install and to change."
    parser = argparse.ArgumentParser("python -m jackfield_platforms.new_plugin", description=about)
    parser.add_argument("name", help="the platform's, as --platform will take it")
    parser.add_argument("--into", metavar="DIR", type=Path, default=Path(), help="the folder to make the plugin's in")
    given = parser.parse_args(words)
    try:
        folder = write_plugin(given.name, given.into)
    except NewPluginError as error:
        print(error, file=sys.stderr)
        return 2
    print(next_steps(given.name, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
