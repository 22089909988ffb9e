"""Finding the plugins that are installed and what each says about its device, without importing any of them here.

Entry points of the group `jackfield.probes` are read as metadata; each module is then asked in a child process with a
time limit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

import msgspec

from jackfield_platforms.asking import Answer, Question
from jackfield_platforms.probe import Probe

State = Literal["usable", "absent", "unusable", "broken", "not asked"]
PROBES = "jackfield.probes"
PROBE_SECONDS = 10.0  # a probe looks at device files and drivers; one that takes longer hangs

# -I: no variable, current folder or user site decides what the child imports; it gets this process's path instead.
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from jackfield_platforms.asking import main; main()"


class Found(msgspec.Struct, frozen=True):
    """One installed plugin and what its probe said.

    `broken`: the probe module could not be imported, raised, hung, or is written for another SDK version; `why` says
    which and `traceback` holds the details. `not asked`: another platform was named, and serves. The other states are
    the probe's own.
    """

    name: str
    dist: str  # the distribution that brought it, and its version
    dist_version: str
    module: str
    state: State
    why: str
    devices: int = 0
    score: int = 0
    by_name_only: bool = False
    api_version: tuple[int, int] | None = None
    seconds: float = 0.0  # to start the child, ask and read the answer
    traceback: str | None = None

    @property
    def standing(self) -> str:
        """The state for people: what is usable and never taken without its name is "by name"."""
        return "by name" if self.state == "usable" and self.by_name_only else self.state


def installed(group: str) -> list[EntryPoint]:
    """Entry points of a group, in order of name and distribution, so that nothing depends on the order of folders.

    Metadata that is there twice counts once: an installer that was interrupted leaves a second folder of it.
    """
    points = {(point.name, *distribution(point), point.value): point for point in entry_points(group=group)}
    return [points[key] for key in sorted(points)]


def distribution(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point belongs to."""
    return (point.dist.name, point.dist.version) if point.dist is not None else ("unknown", "unknown")


def discover(wanted: str | None = None, timeout: float = PROBE_SECONDS) -> list[Found]:
    """Probe every installed plugin, or those called `wanted` alone: no other module is touched then."""
    return probe_all([point for point in installed(PROBES) if wanted is None or point.name == wanted], timeout)


def probe_all(points: Sequence[EntryPoint], timeout: float = PROBE_SECONDS) -> list[Found]:
    """Ask these plugins, all at the same time."""
    with ThreadPoolExecutor(max_workers=max(1, len(points))) as pool:
        return list(pool.map(lambda point: _probe(point, timeout), points))


def unasked(point: EntryPoint) -> Found:
    """What metadata alone says of a plugin."""
    dist, dist_version = distribution(point)
    return Found(point.name, dist, dist_version, point.module, "not asked", "")


def ask(question: Question, timeout: float = PROBE_SECONDS) -> Answer:
    """Put a question to a module in a child process. If it dies, hangs or talks nonsense, the answer is an error."""
    command = [sys.executable, "-I", "-c", _CHILD, json.dumps(sys.path)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that whatever it starts can be ended with it
    )
    try:
        out, err = child.communicate(msgspec.json.encode(question), timeout)
    except subprocess.TimeoutExpired:
        return Answer(error=f"no answer within {timeout:g} s")
    finally:
        _end(child)
    said = err.decode(errors="replace").strip() or None
    if child.returncode != 0:
        return Answer(error=_ending(child.returncode), traceback=said)
    try:
        return msgspec.json.decode(out, type=Answer)
    except msgspec.DecodeError:
        return Answer(error="the process ended without an answer", traceback=said)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def _ending(code: int) -> str:
    return f"the process was ended by signal {-code}" if code < 0 else f"the process ended with status {code}"


def _probe(point: EntryPoint, timeout: float) -> Found:
    start = time.perf_counter()
    answer = ask(Question(point.module), timeout)
    found = msgspec.structs.replace(
        unasked(point),
        state="broken",
        why=answer.error or "",
        api_version=answer.api_version,
        seconds=time.perf_counter() - start,
        traceback=answer.traceback,
    )
    if answer.probe is None:
        return found
    said = answer.probe
    told = {name: getattr(said, name) for name in Probe.__struct_fields__}
    return msgspec.structs.replace(found, **told)


def names(found: Sequence[Found]) -> str:
    """The plugins' names with where they come from, for messages."""
    return ", ".join(f"{one.name} ({one.dist} {one.dist_version})" for one in found)
