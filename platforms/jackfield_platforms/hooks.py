"""The hooks through which a plugin hands its parts over, called at start-up only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from jackfield_platforms.attention import AttentionBackend
    from jackfield_platforms.linear import QuantMethod
    from jackfield_platforms.platform import Platform

PROJECT = "jackfield"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """What a module behind the entry-point group `jackfield.plugins` may implement, marked with `@hookimpl`."""

    @hookspec
    def platforms(self) -> Mapping[str, type[Platform]]:
        """Platform classes by name."""
        raise AssertionError("a specification is not called")

    @hookspec
    def attention_backends(self, platform: str) -> Sequence[type[AttentionBackend[Any]]]:
        """Further attention backends for the named platform; they are tried before its own."""
        raise AssertionError("a specification is not called")

    @hookspec
    def quant_methods(self) -> Mapping[str, type[QuantMethod]]:
        """Weight formats by the name that a checkpoint's config uses."""
        raise AssertionError("a specification is not called")

    @hookspec
    def models(self) -> Mapping[str, str]:
        """Model classes as `module:Class` by the architecture name of a checkpoint's config."""
        raise AssertionError("a specification is not called")


def plugin_manager() -> pluggy.PluginManager:
    """A manager that knows the hooks and no plugin yet; a hook with a wrong argument is an error that names it."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    return manager
