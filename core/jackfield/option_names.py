"""Checks of option names, with a suggestion for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def check_option_names(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises TypeError that names what is not an option of `owner`, and what was probably meant."""
    known = list(known)
    unknown = [name for name in given if name not in known]
    if not unknown:
        return
    name = unknown[0]
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else f" Its options are {', '.join(sorted(known))}."
    raise TypeError(f"{owner} has no option {name!r}.{meant}")
