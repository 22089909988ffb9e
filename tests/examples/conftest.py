"""One server for the examples that talk to one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from server_process import ServerProcess


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The embedded model's."""
    with ServerProcess("--platform", "cpu", "--kv-cache-memory", "16M") as server:
        yield server.url
        assert server.stop() == 0
