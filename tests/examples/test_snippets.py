from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/api.md", "docs/server.md"]

# Each block in a namespace of its own, `await` allowed as in a notebook.
RUN = """
import ast, asyncio, inspect, json, sys
for block in json.load(sys.stdin):
    code = compile(block, "snippet", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, {})
    if inspect.iscoroutine(result):
        asyncio.run(result)
    print("\\0")
"""


@pytest.mark.parametrize("page", PAGES)
def test_python_on_a_page_runs_and_prints(page: str, server_url: str) -> None:
    text = (ROOT / page).read_text().replace("http://127.0.0.1:8000", server_url)
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    *printed, rest = done.stdout.split("\0")
    assert len(printed) == len(blocks)
    assert all(output.strip() for output in printed)
    assert not rest.strip()
