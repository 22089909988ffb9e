"""What a plugin asks of a process before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from jackfield_platforms import API_VERSION
from jackfield_platforms.launching import environment
from jackfield_platforms.probe import LaunchOptions
from jackfield_platforms.selection import PlatformError, find

PLUGIN = f"""
import os
from jackfield_platforms.probe import Launch, Probe
API_VERSION = {API_VERSION}
def probe():
    return Probe("usable", "1 device", devices=1, score=1)
def environment(options):
    threads = str(options.num_threads or os.environ["SEEN_BY_PLUGIN"])
    return Launch(env={{"GADGET_THREADS": threads}}, cpus=options.cpus)
"""


def test_the_plugin_sees_the_options_and_this_process_s_variables(site, monkeypatch):
    site.install("gadget", PLUGIN)
    monkeypatch.setenv("SEEN_BY_PLUGIN", "5")
    found = find("gadget")
    assert environment(found, LaunchOptions()).env == {"GADGET_THREADS": "5"}
    launch = environment(found, LaunchOptions(num_threads=3, cpus=(0, 1)))
    assert (launch.env, launch.cpus) == ({"GADGET_THREADS": "3"}, (0, 1))
    assert "GADGET_THREADS" not in os.environ


def test_an_environment_that_fails_is_an_error_with_the_plugin_s_traceback(site, monkeypatch):
    site.install("gadget", PLUGIN)
    monkeypatch.delenv("SEEN_BY_PLUGIN", raising=False)
    found = find("gadget")
    with pytest.raises(PlatformError, match="KeyError: 'SEEN_BY_PLUGIN'") as caught:
        environment(found, LaunchOptions())
    assert "vendor_gadget_probes.py" in str(caught.value)


APPLY = """
import ctypes.util, json, os, sys
from jackfield_platforms.launching import apply_launch
from jackfield_platforms.probe import Launch
cpus = (min(os.sched_getaffinity(0)),) if sys.platform == "linux" else ()
apply_launch(Launch(env={"GADGET": "new", "KEPT": "same"}, cpus=cpus))
after = sorted(os.sched_getaffinity(0)) if cpus else []
print(json.dumps([os.environ["GADGET"], list(cpus), after, "torch" in sys.modules]))
"""


def run(code):
    environ = {**os.environ, "GADGET": "old", "KEPT": "same"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True)


def test_a_launch_sets_variables_and_the_processors_of_the_process():
    done = run(APPLY)
    value, wanted, pinned, torch_is_there = json.loads(done.stdout)
    assert value == "new"
    assert pinned == wanted
    assert not torch_is_there
    assert done.stderr == ""


def test_a_launch_that_comes_after_torch_is_told():
    done = run("import sys, types; sys.modules['torch'] = types.ModuleType('torch')\n" + APPLY)
    assert "torch was imported before GADGET could take effect" in done.stderr
    assert "KEPT" not in done.stderr


def test_a_library_that_is_not_there_is_an_error():
    code = "from jackfield_platforms.launching import apply_launch\nfrom jackfield_platforms.probe import Launch\n"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(code + "apply_launch(Launch(preload=('libnowhere.so.9',)))")
    assert "libnowhere.so.9" in caught.value.stderr
