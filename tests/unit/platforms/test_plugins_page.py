"""The plugin that docs/plugins.md shows is installed as it stands there, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jackfield_platforms.selection import PlatformError, find

PAGE = Path(__file__).parents[3] / "docs" / "plugins.md"


def test_the_page_s_plugin_is_absent_where_its_device_is(site):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (probe,) = (block for block in blocks if "def probe" in block)
    site.install("gadget", probe)
    site.install("cpu", site.answers("usable", why="8 cores, AVX2", score=10))
    assert find().name == "cpu"
    with pytest.raises(PlatformError) as caught:
        find("gadget")
    assert f"```\n{caught.value}\n```" in PAGE.read_text()
