"""The plugin that docs/plugins.md shows is installed as it stands there, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jackfield_platforms.hooks import Hooks
from jackfield_platforms.platform import Platform
from jackfield_platforms.selection import PlatformError, find

PAGE = Path(__file__).parents[3] / "docs" / "plugins.md"
TUTORIAL = PAGE.with_name("tutorial.md")


def public(kind: type) -> set[str]:
    """What a class declares for others, with a value or without."""
    return {name for name in {*vars(kind), *kind.__annotations__} if not name.startswith("_")}


def section(page: Path, title: str) -> str:
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", page.read_text(), re.MULTILINE | re.DOTALL)
    return text


def test_the_page_s_table_holds_every_member_of_a_platform_and_says_which_are_required():
    rows = re.findall(r"^\| `(\w+)(\(.*\))?` \| (.+) \| (.+) \|$", section(PAGE, "What a platform may provide"), re.M)
    assert [name for name, *_ in rows] == list(dict.fromkeys(name for name, *_ in rows)), "each once"
    assert {name for name, *_ in rows} == public(Platform)
    for name, arguments, _, default in rows:
        member = vars(Platform).get(name)
        assert bool(arguments) == callable(member), name
        assert (default == "required") == (member is None or name in Platform.__abstractmethods__), name
        if arguments:
            code = member.__code__
            assert arguments == f"({', '.join(code.co_varnames[1 : code.co_argcount])})", name


def test_the_tutorial_s_end_names_the_same_members_and_every_hook_is_on_the_page():
    told = section(TUTORIAL, "Everything that a platform may provide")
    assert set(re.findall(r"`(\w+)`", told)) == public(Platform) | {"quant_methods"}
    assert {hook for hook in public(Hooks) if f"`{hook}`" not in PAGE.read_text()} == set()


def test_the_page_s_plugin_is_absent_where_its_device_is(site):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (probe,) = (block for block in blocks if "def probe" in block)
    site.install("gadget", probe)
    site.install("cpu", site.answers("usable", why="8 cores, AVX2", score=10))
    assert find().name == "cpu"
    with pytest.raises(PlatformError) as caught:
        find("gadget")
    assert f"```\n{caught.value}\n```" in PAGE.read_text()
