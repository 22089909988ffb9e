"""What a person who knows nothing types first: it must be quick to answer, and must not load a framework to do so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from jackfield.cli.main import COMMANDS
from jackfield.version import __version__

HEAVY = {"torch", "transformers", "numpy", "starlette", "uvicorn", "zmq", "rich", "huggingface_hub"}
RUN = """
import json, sys
from jackfield.cli.main import main
try:
    main()
except SystemExit as end:
    status = end.code
print("modules", json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def started(*words):
    done = subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True, check=True)
    *said, last = done.stdout.splitlines()
    status, modules = json.loads(last.removeprefix("modules "))
    assert not status, done.stderr
    return "\n".join(said), set(modules)


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_and_version_load_nothing_heavy(words):
    said, modules = started(*words)
    assert said
    assert not modules & HEAVY


def test_version_is_that_of_the_distribution(run):
    assert run("--version").output == f"jackfield {__version__}\n"


def test_help_names_every_command(run):
    said = run("--help").output
    assert [name for name in COMMANDS if f"\n  {name} " not in said] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(run, name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["serv"], "Did you mean 'serve'?"),
        (["serve", "--prot", "8001"], "Did you mean one of: '--host', '--port'?"),
        (["serve", "--max-modellen", "10"], "--max-model-len"),
        (["chat", "--temprature", "1"], "--temperature"),
        (["bench", "offline", "--num-prompt=3"], "--num-prompts"),
    ],
)
def test_an_unknown_word_is_answered_with_the_likely_one(run, words, advice):
    result = run(*words)
    assert result.exit_code == 2
    assert advice in result.output


def test_python_m_jackfield_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "jackfield", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"jackfield {__version__}\n"


def test_importing_jackfield_loads_nothing_heavy():
    code = "import json, sys, jackfield; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in json.loads(done.stdout)} & {*HEAVY, "msgspec", "click"}


def test_a_public_name_that_does_not_exist_is_an_attribute_error():
    import jackfield

    with pytest.raises(AttributeError, match="module 'jackfield' has no attribute 'LLMS'; it has LLM, Async"):
        _ = jackfield.LLMS


def test_every_public_name_is_there():
    import jackfield

    for name in jackfield.__all__:
        assert getattr(jackfield, name) is not None
        assert name in dir(jackfield)
