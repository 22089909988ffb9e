"""Importing the plugins of a launch and asking their hooks, once, at start-up."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from jackfield_platforms.discovery import PROBES, distribution, installed
from jackfield_platforms.hooks import plugin_manager
from jackfield_platforms.selection import PlatformError

if TYPE_CHECKING:
    from jackfield_platforms.attention import AttentionBackend
    from jackfield_platforms.linear import QuantMethod
    from jackfield_platforms.platform import Platform

PLUGINS = "jackfield.plugins"
Part = TypeVar("Part")


class Plugins:
    """The plugins of one launch. It hands out classes and makes platforms, and keeps no state of theirs."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager

    def platform(self, name: str) -> Platform:
        """A new platform object; PlatformError names those that the loaded plugins offer."""
        offered = _merged("platform", self._manager.hook.platforms())
        if name not in offered:
            raise PlatformError(f"Wanted platform {name!r}; the loaded plugins offer {', '.join(offered) or 'none'}.")
        made: Platform = offered[name]()
        return made

    def attention_backends(self, platform: Platform) -> list[type[AttentionBackend[Any]]]:
        """Backends to try in order: what other plugins bring for this platform, then its own."""
        brought = self._manager.hook.attention_backends(platform=platform.name)
        return [*(backend for backends in brought for backend in backends), *platform.attention_backends()]

    def quant_methods(self) -> dict[str, type[QuantMethod]]:
        """Weight formats by name."""
        return _merged("weight format", self._manager.hook.quant_methods())

    def models(self) -> dict[str, str]:
        """Model classes as `module:Class`, by architecture name."""
        return _merged("model", self._manager.hook.models())


def load(*platforms: str) -> Plugins:
    """Import the plugins of the named platforms, and those that belong to no device (weight formats, models).

    A plugin belongs to a device when the group `jackfield.probes` has an entry of its name. PlatformError says which
    plugin cannot be loaded and what to do.
    """
    devices = {point.name for point in installed(PROBES)}
    points = [point for point in installed(PLUGINS) if point.name in platforms or point.name not in devices]
    missing = set(platforms) - {point.name for point in points}
    if missing:
        raise PlatformError(f"Wanted plugin {sorted(missing)[0]!r}; the group {PLUGINS} has no entry of that name.")
    manager = plugin_manager()
    for point in points:
        _register(manager, point)
    return Plugins(manager)


def _register(manager: pluggy.PluginManager, point: EntryPoint) -> None:
    try:
        manager.register(point.load(), name=f"{point.name} from {distribution(point)[0]}")
        manager.check_pending()
    except Exception as error:  # a stranger's module may raise anything
        dist, version = distribution(point)
        raise PlatformError(
            f"Wanted plugin {point.name!r} ({point.value}); {type(error).__name__}: {error}\n"
            f"Repair, upgrade or uninstall {dist} {version}."
        ) from error


def _merged(what: str, answers: list[Mapping[str, Part]]) -> dict[str, Part]:
    merged: dict[str, Part] = {}
    for answer in answers:
        for name, part in answer.items():
            if name in merged:
                both = f"{merged[name]!r} and {part!r}"
                raise PlatformError(f"Wanted one {what} called {name!r}; {both} both are. Uninstall one.")
            merged[name] = part
    return merged
