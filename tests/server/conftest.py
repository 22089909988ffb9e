"""Servers for tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scripted_engine import TOKENIZER
from server_kit import Go, Servers

from jackfield.frontend.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The embedded model's."""
    return Tokenizer.load(TOKENIZER)


@pytest.fixture
def servers(tokenizer: Tokenizer) -> Servers:
    """Makes servers inside a test's event loop."""
    return Servers(tokenizer)


@pytest.fixture
def go() -> Go:
    """Runs a test's coroutine, 30 seconds at most."""

    def run(test: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(test, 30)

        asyncio.run(bounded())

    return run
