"""What a plugin's distribution requires, and what of it is installed: a vendor's framework, runtime, kernels."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version

import msgspec


class Software(msgspec.Struct, frozen=True):
    """A distribution that another one requires: what it wants of it, and the version that is installed, if any."""

    name: str
    wanted: str  # ">=2.9"; empty: any
    found: str | None
    fits: bool

    @property
    def told(self) -> str:
        """For people: the version, and what was wanted where that does not fit."""
        found = self.found or "not installed"
        return found if self.fits else f"{found}; wanted {self.wanted or 'any'}"


def installed_version(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def required_software(dist: str) -> list[Software]:
    """What the distribution requires on this system, without its extras, in the order of its metadata."""
    try:
        lines = requires(dist) or []
    except PackageNotFoundError:
        return []
    return [one for line in lines if (one := _software(line)) is not None]


def _software(line: str) -> Software | None:
    """None where the requirement is for another system, or for an extra."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return Software(line, "a requirement that can be read", None, fits=False)
    if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
        return None
    found = installed_version(wanted.name)
    return Software(wanted.name, str(wanted.specifier), found, fits=_fits(str(wanted.specifier), found))


def _fits(wanted: str, found: str | None) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return found is not None and SpecifierSet(wanted).contains(found, prereleases=True)
    except InvalidVersion:
        return False
