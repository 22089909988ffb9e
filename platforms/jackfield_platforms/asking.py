"""The child's side of a question to a plugin's light module: `probe()` or `environment(options)`.

A child is started by `discovery` for each question, so that a module that breaks, prints, hangs or takes the
interpreter down harms nobody. The answer leaves through a private copy of standard output; what the module prints goes
to standard error.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
import time
import traceback
from typing import TypeVar

import msgspec

from jackfield_platforms import API_VERSION
from jackfield_platforms.probe import Launch, LaunchOptions, Probe

Said = TypeVar("Said", Probe, Launch)


class Question(msgspec.Struct, frozen=True):
    """What is asked of a module. `options` None asks for `probe()`, otherwise for `environment(options)`."""

    module: str
    options: LaunchOptions | None = None


class Answer(msgspec.Struct, frozen=True):
    """What came back: one of `probe` and `launch`, or why there is neither, with the traceback where there is one."""

    probe: Probe | None = None
    launch: Launch | None = None
    error: str | None = None
    traceback: str | None = None
    api_version: tuple[int, int] | None = None
    seconds: float = 0.0  # that the module itself took, its import included


class MisfitError(Exception):
    """The module is not what a probe module must be. The message says what was wanted and what was found."""


def objection(theirs: tuple[int, int], ours: tuple[int, int] = API_VERSION) -> str | None:
    """Why a plugin written for SDK version `theirs` cannot be used with `ours`, or None.

    The major number must be equal. While it is 0 every minor one may break, so it must be equal too; from 1 on a plugin
    may be older than the SDK (its minor number at most ours).
    """
    if theirs[0] == ours[0] and (theirs[1] == ours[1] if ours[0] == 0 else theirs[1] <= ours[1]):
        return None
    older = theirs < ours
    return (
        f"it is written for SDK version {theirs[0]}.{theirs[1]}, and {ours[0]}.{ours[1]} is installed; "
        f"upgrade {'the plugin' if older else 'jackfield'}"
    )


def declared_version(module: str) -> tuple[int, int]:
    """`API_VERSION` as the module's source states it, without running the module; MisfitError when it states none."""
    spec = importlib.util.find_spec(module)  # imports the parent package, which must be light too
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    with open(spec.origin, encoding="utf-8") as file:
        tree = ast.parse(file.read(), spec.origin)
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["API_VERSION"]:
            return _as_version(module, node.value)
    raise MisfitError(f"wanted API_VERSION = (major, minor) in {module}; found none")


def _as_version(module: str, value: ast.expr) -> tuple[int, int]:
    try:
        return msgspec.convert(ast.literal_eval(value), tuple[int, int])
    except (ValueError, msgspec.ValidationError):
        found = ast.unparse(value)
        raise MisfitError(f"wanted two literal integers as API_VERSION in {module}; found {found}") from None


def answer(question: Question) -> Answer:
    """Import the module and call what was asked for; whatever goes wrong becomes an answer with an error."""
    start = time.perf_counter()
    version = None
    try:
        version = declared_version(question.module)
        refusal = objection(version)
        if refusal is not None:
            return Answer(error=refusal, api_version=version)
        module = importlib.import_module(question.module)
        if question.options is None:
            result = Answer(probe=_checked(module.probe(), Probe, "probe()"))
        else:
            result = Answer(launch=_checked(module.environment(question.options), Launch, "environment(options)"))
    except MisfitError as misfit:
        result = Answer(error=str(misfit))
    except (Exception, SystemExit) as error:  # anything a stranger's module may raise; it is reported, never dropped
        result = Answer(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    return msgspec.structs.replace(result, api_version=version, seconds=time.perf_counter() - start)


def _checked(value: object, kind: type[Said], call: str) -> Said:
    if not isinstance(value, kind):
        raise MisfitError(f"wanted a {kind.__name__} from {call}; found {value!r}")
    return msgspec.convert(msgspec.to_builtins(value), kind)  # field types are checked here, in the child


def main() -> None:
    """Answer the question on standard input."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    private = os.dup(1)
    os.dup2(2, 1)
    reply = msgspec.json.encode(answer(question))
    with os.fdopen(private, "wb") as out:
        out.write(reply)
    sys.stdout.flush()
    os._exit(0)  # what a module registered for interpreter exit is none of our business
