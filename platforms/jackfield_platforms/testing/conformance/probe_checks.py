"""The probe module, asked in child processes as a launch asks it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from jackfield_platforms import API_VERSION
from jackfield_platforms.asking import Question
from jackfield_platforms.discovery import PROBE_SECONDS, ask
from jackfield_platforms.probe import LaunchOptions
from jackfield_platforms.testing.conformance.mismatch import expect
from jackfield_platforms.testing.conformance.subject import Subject

_HEAVY = ("torch", "numpy", "transformers", "jax", "tensorflow")
_CHILD = """
import importlib, json, sys
path, name = json.loads(sys.argv[1])
sys.path[:] = path
from jackfield_platforms.probe import LaunchOptions
module = importlib.import_module(name)
module.probe()
module.environment(LaunchOptions())
print("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def probe_module(subject: Subject) -> Iterator[tuple[str, str]]:
    """The module behind the platform's entry point."""
    return iter(() if subject.probe is None else ((subject.probe, subject.probe),))


def check_the_probe_answers(probe_module: str) -> None:
    """API_VERSION is a literal that fits this SDK, and `probe()` answers within the limit."""
    answer = ask(Question(probe_module))
    expect(answer.error is None, f"asked for probe(): {answer.error}\n{answer.traceback or ''}")
    expect(answer.api_version == API_VERSION, f"wanted API_VERSION {API_VERSION}; found {answer.api_version}")
    expect(answer.probe is not None and answer.probe.why, "wanted a sentence in Probe.why")
    expect(answer.probe is None or answer.probe.devices >= 0, "devices is negative")


def check_the_environment_is_told(probe_module: str) -> None:
    """`environment(options)` answers for one rank and for the second of two."""
    for options in (LaunchOptions(), LaunchOptions(local_rank=1, local_size=2, cpus=(0, 1, 2, 3), num_threads=1)):
        answer = ask(Question(probe_module, options))
        expect(answer.launch is not None, f"asked for environment({options}): {answer.error}\n{answer.traceback or ''}")


def check_the_probe_imports_no_framework(probe_module: str) -> None:
    """Asking must be quick, and what `environment` says must come before the framework reads its variables."""
    given = json.dumps([sys.path, probe_module])
    done = subprocess.run(
        [sys.executable, "-I", "-c", _CHILD, given], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
    )
    expect(done.returncode == 0, f"{probe_module} cannot be asked: {done.stderr}")
    found = sorted(set(json.loads(done.stdout.splitlines()[-1])) & set(_HEAVY))
    expect(not found, f"{probe_module} imports {', '.join(found)}")
