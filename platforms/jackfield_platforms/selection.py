"""Choosing the platform of a launch. It never guesses: a tie, a broken plugin or an unusable device is an error."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence

from jackfield_platforms.discovery import PROBE_SECONDS, PROBES, Found, installed, names, probe_all, unasked

VARIABLE = "JACKFIELD_PLATFORM"


class PlatformError(Exception):
    """No platform can be taken. The message says what was wanted, what was found and what to do."""


def wanted_platform(argument: str | None = None) -> str | None:
    """The name that was asked for: the argument, else the variable JACKFIELD_PLATFORM; None when neither says one."""
    return argument or os.environ.get(VARIABLE) or None


def find(argument: str | None = None, timeout: float = PROBE_SECONDS) -> Found:
    """Discover and select; PlatformError says what is wrong."""
    return select(survey(argument, timeout), wanted_platform(argument))


def survey(argument: str | None = None, timeout: float = PROBE_SECONDS) -> list[Found]:
    """Every installed plugin, as far as a launch asks them.

    When a platform is named, only its probe is run and the others are "not asked"; they are asked too when it cannot
    serve, to tell what there is instead.
    """
    wanted, points = wanted_platform(argument), installed(PROBES)
    named = probe_all([point for point in points if wanted in (None, point.name)], timeout)
    others = [point for point in points if wanted not in (None, point.name)]
    is_served = any(one.state == "usable" for one in named)
    found = [*named, *([unasked(point) for point in others] if is_served else probe_all(others, timeout))]
    return sorted(found, key=lambda one: (one.name, one.dist))


def select(found: Sequence[Found], wanted: str | None = None) -> Found:
    """The plugin to launch with. PlatformError lists every one with what it said.

    A name is taken if exactly one plugin of that name is usable. Without a name nothing may be broken or unusable, and
    the highest score among the usable wins; `absent` is fine, and who goes by name only is left out.
    """
    candidates = [one for one in found if one.state == "usable" and _is_asked_for(one, wanted)]
    if not candidates:
        asked = "a platform" if wanted is None else f"platform {wanted!r}"
        unnamed = " unless asked for by name" if wanted is None and any(map(_waits_for_its_name, found)) else ""
        raise PlatformError(_message(f"Wanted {asked}; none usable{unnamed}.{_close(found, wanted)}", found))
    troubled = [one for one in found if one.state in ("broken", "unusable") and not one.by_name_only]
    if wanted is None and troubled:
        those = f"{', '.join(one.name for one in troubled)} cannot be used"
        raise PlatformError(_message(f"Wanted a platform; {those}, and nobody said to do without.", found))
    best = max(one.score for one in candidates)
    winners = [one for one in candidates if wanted is not None or one.score == best]
    if len(winners) > 1:
        raise PlatformError(_tie(winners, wanted, found))
    return winners[0]


def _waits_for_its_name(one: Found) -> bool:
    return one.state == "usable" and one.by_name_only


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
    lines = [f"  {one.name:<{width}} {one.standing}" + (f": {one.why}" if one.why else "") for one in found]
    return "\n".join([f"{first} Installed plugins:", *lines, f"{install} or choose with --platform."])
