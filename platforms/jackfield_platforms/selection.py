"""Choosing the platform of a launch. It never guesses: a tie, a broken plugin or an unusable device is an error."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence

from jackfield_platforms.discovery import PROBE_SECONDS, Found, discover, names

VARIABLE = "JACKFIELD_PLATFORM"


class PlatformError(Exception):
    """No platform can be taken. The message says what was wanted, what was found and what to do."""


def wanted_platform(argument: str | None = None) -> str | None:
    """The name that was asked for: the argument, else the variable JACKFIELD_PLATFORM; None when neither says one."""
    return argument or os.environ.get(VARIABLE) or None


def find(argument: str | None = None, timeout: float = PROBE_SECONDS) -> Found:
    """Discover and select. Only the plugin that was asked for is probed; the others too when it cannot serve."""
    wanted = wanted_platform(argument)
    found = discover(wanted, timeout)
    if wanted is not None and not any(one.state == "usable" for one in found):
        found = discover(None, timeout)  # to tell what there is instead
    return select(found, wanted)


def select(found: Sequence[Found], wanted: str | None = None) -> Found:
    """The plugin to launch with. PlatformError lists every one with what it said.

    A name is taken if exactly one plugin of that name is usable. Without a name nothing may be broken or unusable, and
    the highest score among the usable wins; `absent` is fine, and who goes by name only is left out.
    """
    candidates = [one for one in found if one.state == "usable" and _is_asked_for(one, wanted)]
    if not candidates:
        asked = "a platform" if wanted is None else f"platform {wanted!r}"
        raise PlatformError(_message(f"Wanted {asked}; none usable.{_close(found, wanted)}", found))
    troubled = [one for one in found if one.state in ("broken", "unusable")]
    if wanted is None and troubled:
        those = f"{', '.join(one.name for one in troubled)} cannot be used"
        raise PlatformError(_message(f"Wanted a platform; {those}, and nobody said to do without.", found))
    best = max(one.score for one in candidates)
    winners = [one for one in candidates if wanted is not None or one.score == best]
    if len(winners) > 1:
        raise PlatformError(_tie(winners, wanted, found))
    return winners[0]


def _is_asked_for(one: Found, wanted: str | None) -> bool:
    return not one.by_name_only if wanted is None else one.name == wanted


def _tie(winners: Sequence[Found], wanted: str | None, found: Sequence[Found]) -> str:
    if wanted is None:
        return _message(f"Wanted one platform; {names(winners)} share the highest score, {winners[0].score}.", found)
    return _message(f"Wanted platform {wanted!r}; {names(winners)} go by that name. Uninstall all but one.", found)


def _close(found: Sequence[Found], wanted: str | None) -> str:
    close = difflib.get_close_matches(wanted or "", [one.name for one in found], n=1)
    return f" Did you mean {close[0]!r}?" if close and close[0] != wanted else ""


def _message(first: str, found: Sequence[Found]) -> str:
    install = 'Install one (pip install "jackfield[cpu]")'
    if not found:
        return f"{first} No plugin is installed.\n{install}."
    width = max(8, *(len(one.name) for one in found))
    lines = [f"  {one.name:<{width}} {one.state}: {one.why}" for one in found]
    return "\n".join([f"{first} Installed plugins:", *lines, f"{install} or choose with --platform."])
