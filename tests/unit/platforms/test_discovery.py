"""What each kind of plugin looks like from outside, found through real metadata and asked in a real child process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jackfield_platforms import API_VERSION
from jackfield_platforms.discovery import discover


def only(found):
    (one,) = found
    return one


def test_nothing_is_found_where_nothing_is_installed(site):
    assert discover() == []


@pytest.mark.parametrize("state", ["usable", "absent", "unusable"])
def test_the_probe_s_own_answer_is_reported(site, state):
    site.install("gadget", site.answers(state, why="because", score=70))
    found = only(discover())
    assert (found.state, found.why, found.score) == (state, "because", 70)
    assert (found.name, found.dist, found.dist_version) == ("gadget", "vendor-gadget", "1.2")
    assert found.api_version == API_VERSION
    assert found.traceback is None
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("API_VERSION = {version}\nimport no_such_framework", "No module named 'no_such_framework'"),
        ("API_VERSION = {version}\ndef probe(): raise OSError('driver fell over')", "OSError: driver fell over"),
        ("API_VERSION = {version}\ndef probe(): return 3", "wanted a Probe from probe(); found 3"),
        ("API_VERSION = {version}\nraise SystemExit(4)", "SystemExit: 4"),
        ("API_VERSION = {version}\nimport os; os._exit(7)", "the process ended with status 7"),
        ("API_VERSION = {version}\nimport os; os._exit(0)", "the process ended without an answer"),
        ("API_VERSION = {version}\nimport os; os.kill(os.getpid(), 11)", "the process was ended by signal 11"),
        ("API_VERSION = {version}\nthis is no python", "SyntaxError"),
        ("def probe(): return 3", "found none"),
        ("API_VERSION = make()", "found make()"),
        ("API_VERSION = (1, 'two')", "found (1, 'two')"),
    ],
)
def test_a_module_that_does_not_work_is_broken_and_says_why(site, source, why):
    site.install("gadget", source.format(version=API_VERSION))
    found = only(discover())
    assert found.state == "broken"
    assert why in found.why


def test_the_traceback_of_a_broken_import_is_kept(site):
    site.install("gadget", f"API_VERSION = {API_VERSION}\nimport no_such_framework")
    assert "vendor_gadget_probes.py" in only(discover()).traceback


def test_an_entry_point_without_its_module_is_broken(site):
    site.install("gadget", "")
    (site.folder / "vendor_gadget_probes.py").unlink()
    assert only(discover()).why == "ModuleNotFoundError: No module named 'vendor_gadget_probes'"


def test_a_module_for_another_version_is_refused_without_being_run(site):
    later = (API_VERSION[0], API_VERSION[1] + 1)
    site.install("gadget", f"open({str(site.log)!r}, 'w')\n" + site.answers("usable", version=later))
    found = only(discover())
    assert found.state == "broken"
    assert found.api_version == later
    assert "upgrade jackfield" in found.why
    assert not site.log.exists()


def test_a_probe_that_hangs_is_ended_with_all_that_it_started(site):
    pid = site.folder / "pid"
    site.install(
        "gadget",
        f"""
        API_VERSION = {API_VERSION}
        import subprocess, sys
        def probe():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            open({str(pid)!r}, "w").write(str(child.pid))
            child.wait()
        """,
    )
    found = only(discover(timeout=2.0))
    assert (found.state, found.why) == ("broken", "no answer within 2 s")
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid.read_text()], capture_output=True, text=True).stdout
    assert state.strip() in ("", "Z")


def test_what_a_probe_prints_does_not_spoil_its_answer(site):
    noise = "import os, sys\nprint('{garbage')\nos.write(1, b'more')\nsys.stderr.write('noise')\n"
    site.install("gadget", noise + site.answers("usable"))
    assert only(discover()).state == "usable"


def test_a_module_may_not_print_at_exit_into_the_answer(site):
    site.install("gadget", "import atexit\natexit.register(print, 'late')\n" + site.answers("usable"))
    assert only(discover()).state == "usable"


def test_only_the_wanted_plugin_is_run(site):
    site.install("gadget", site.answers("usable"))
    site.install("other", f"open({str(site.log)!r}, 'w')\n" + site.answers("usable"))
    assert only(discover("gadget")).name == "gadget"
    assert not site.log.exists()
    assert [one.name for one in discover()] == ["gadget", "other"]
    assert site.log.exists()


def test_discovery_imports_no_plugin_here(site):
    site.install("gadget", site.answers("usable"))
    discover()
    assert "vendor_gadget_probes" not in sys.modules
