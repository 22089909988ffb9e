"""Loading the plugins of a launch: which are imported, what they may offer, what goes wrong by name."""

from __future__ import annotations

import sys

import pytest

from jackfield_platforms.loading import load
from jackfield_platforms.selection import PlatformError

PLATFORM = """
from jackfield_platforms.capabilities import Capabilities
from jackfield_platforms.hooks import hookimpl
from jackfield_platforms.platform import Platform
class Gadget(Platform):
    name, device_type = "{name}", "cpu"
    def capabilities(self):
        return Capabilities(dtypes=("float32",), kv_dtypes=("float32",))
    def attention_backends(self):
        return ["own"]
@hookimpl
def platforms():
    return {{"{name}": Gadget}}
"""
FORMATS = """
from jackfield_platforms.hooks import hookimpl
@hookimpl
def quant_methods():
    return {"tiny": int}
@hookimpl
def attention_backends(platform):
    return ["brought for " + platform] if platform == "gadget" else []
@hookimpl
def models():
    return {"TinyForCausalLM": "vendor.tiny:Tiny"}
"""


def test_the_named_platform_and_what_belongs_to_no_device_are_loaded(site):
    site.install("gadget", site.answers("usable"), PLATFORM.format(name="gadget"))
    site.install("other", site.answers("usable"), "raise RuntimeError('not to be imported')")
    site.install("formats", None, FORMATS)
    plugins = load("gadget")
    platform = plugins.platform("gadget")
    assert platform.name == "gadget"
    assert plugins.platform("gadget") is not platform
    assert plugins.quant_methods() == {"tiny": int}
    assert plugins.models() == {"TinyForCausalLM": "vendor.tiny:Tiny"}
    assert plugins.attention_backends(platform) == ["brought for gadget", "own"]
    assert "vendor_other_plugins" not in sys.modules


def test_two_platforms_may_live_in_one_process(site):
    for name in ("left", "right"):
        site.install(name, site.answers("usable"), PLATFORM.format(name=name))
    plugins = load("left", "right")
    assert [plugins.platform(name).name for name in ("left", "right")] == ["left", "right"]


def test_a_platform_that_nobody_offers_is_an_error_that_names_those_offered(site):
    site.install("gadget", site.answers("usable"), PLATFORM.format(name="gadget"))
    with pytest.raises(PlatformError, match="Wanted platform 'widget'; the loaded plugins offer gadget"):
        load("gadget").platform("widget")


def test_a_probe_without_a_plugin_is_an_error(site):
    site.install("gadget", site.answers("usable"))
    with pytest.raises(PlatformError, match=r"Wanted plugin 'gadget'; the group jackfield\.plugins has no entry"):
        load("gadget")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise RuntimeError('half installed')", "RuntimeError: half installed"),
        ("from jackfield_platforms.hooks import hookimpl\n@hookimpl\ndef platfroms(): ...", "unknown hook 'platfroms'"),
        ("from jackfield_platforms.hooks import hookimpl\n@hookimpl\ndef platforms(extra): ...", "extra"),
    ],
)
def test_a_plugin_that_does_not_fit_is_an_error_that_says_what_to_do(site, source, why):
    site.install("formats", None, source)
    with pytest.raises(PlatformError, match=r"uninstall vendor-formats 1\.2") as caught:
        load()
    assert why in str(caught.value)


def test_two_plugins_that_offer_one_name_are_an_error(site):
    site.install("one", None, FORMATS)
    site.install("two", None, FORMATS)
    with pytest.raises(PlatformError, match="Wanted one weight format called 'tiny'"):
        load().quant_methods()
