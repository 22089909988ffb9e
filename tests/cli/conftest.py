"""The command line run in this process, with the calls that it makes recorded instead of made."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jackfield.cli.main import jackfield


class Calls(list):
    """Arguments of recorded calls, as (positional, keyword)."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.append((args, kwargs))
        return self.answer

    answer: Any = None


@pytest.fixture
def run():
    """`run("serve", "--port", "1")` gives the result of the command."""

    def invoke(*words: str, text: str | None = None) -> Result:
        return CliRunner().invoke(jackfield, words, input=text, prog_name="jackfield")

    return invoke


@pytest.fixture
def replace_module(monkeypatch):
    """`replace_module("jackfield.server.run", serve=calls)` has commands import that instead of the real one."""

    def replace(name: str, **members: Any) -> None:
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    return replace


@pytest.fixture
def calls() -> Calls:
    """A function that records how it is called."""
    return Calls()
