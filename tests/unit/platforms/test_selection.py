"""Selection never guesses. Each situation that docs/plugins.md lists is a test here, and the other way round."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jackfield.cli.main import jackfield
from jackfield_platforms import API_VERSION
from jackfield_platforms.loading import load
from jackfield_platforms.selection import PlatformError, find, survey

PAGE = Path(__file__).parents[3] / "docs" / "plugins.md"
BROKEN = f"API_VERSION = {API_VERSION}\nimport no_such_framework"
SITUATIONS: list[tuple[str, str]] = []  # what is installed and asked for, and what happens


def situation(installed: str, happens: str):
    """The test is about a row of the page's table."""
    SITUATIONS.append((installed, happens))
    return lambda test: test


def refusal(*asked: str, **limits: float) -> str:
    """What `find` says when it takes nothing."""
    with pytest.raises(PlatformError) as caught:
        find(*asked, **limits)
    return str(caught.value)


def test_the_page_lists_these_situations():
    section = PAGE.read_text().partition("## Which platform is taken\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert rows == [("installed, and asked for", "what happens"), *SITUATIONS]


@situation("nothing", "an error that says how to install one")
def test_without_plugins_the_error_says_how_to_get_one(site):
    said = refusal()
    assert said.startswith("Wanted a platform; none usable. No plugin is installed.\nInstall one (pip install")


@situation("one usable", "it is taken")
def test_a_single_usable_plugin_is_taken(site):
    site.install("gadget", site.answers("usable"))
    assert find().name == "gadget"


@situation("several usable", "the highest score is taken")
def test_an_accelerator_beats_the_processor(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("usable", score=100))
    assert find().name == "fast"


@situation("one usable, the others absent", "the usable one is taken")
def test_an_absent_device_is_fine(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("absent", why="no /dev/fast0", score=0))
    assert find().name == "plain"


@situation("all absent", "an error: why each is")
def test_when_all_are_absent_each_says_why(site):
    site.install("plain", site.answers("absent", why="wrong instruction set"))
    site.install("fast", site.answers("absent", why="no /dev/fast0"))
    assert refusal().splitlines() == [
        "Wanted a platform; none usable. Installed plugins:",
        "  fast     absent: no /dev/fast0",
        "  plain    absent: wrong instruction set",
        'Install one (pip install "jackfield[cpu]") or choose with --platform.',
    ]


@situation("two that share the highest score", "an error that names both")
def test_a_tie_is_an_error_that_names_both(site):
    for name in ("left", "right"):
        site.install(name, site.answers("usable", score=50))
    assert "left (vendor-left 1.2), right (vendor-right 1.2) share the highest score, 50" in refusal()


@situation("two that share the highest score; one named", "the named one is taken")
def test_a_tie_is_settled_by_a_name(site):
    for name in ("left", "right"):
        site.install(name, site.answers("usable", score=50))
    assert find("right").name == "right"


@situation("two distributions of one name, named or not", "an error that names both distributions")
@pytest.mark.parametrize("asked", [(), ("gadget",)])
def test_two_distributions_with_one_name_are_an_error_even_when_named(site, asked):
    site.install("gadget", site.answers("usable"), dist="vendor-one")
    site.install("gadget", site.answers("usable"), dist="vendor-two")
    assert "gadget (vendor-one 1.2), gadget (vendor-two 1.2)" in refusal(*asked).splitlines()[0]


@situation("the metadata of one distribution twice, as an interrupted installer leaves it", "it counts once")
def test_metadata_that_is_there_twice_counts_once(site):
    site.install("gadget", site.answers("usable"))
    whole = site.folder / "vendor_gadget-1.2.dist-info"
    (site.folder / "~endor_gadget-1.2.dist-info").mkdir()
    for file in whole.iterdir():
        (site.folder / "~endor_gadget-1.2.dist-info" / file.name).write_text(file.read_text())
    assert [one.name for one in survey()] == ["gadget"]
    assert find().name == "gadget"


@situation("a broken one beside a usable one", "an error: why it is broken")
def test_a_broken_plugin_beside_a_usable_one_is_an_error(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", BROKEN)
    said = refusal()
    assert "fast cannot be used, and nobody said to do without" in said
    assert "fast     broken: ModuleNotFoundError: No module named 'no_such_framework'" in said
    assert "plain    usable: 1 device" in said


@situation("an unusable one beside a usable one", "an error: what its driver lacks")
def test_an_unusable_driver_beside_a_usable_device_is_an_error(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("unusable", why="driver 4 is too old"))
    said = refusal()
    assert "fast cannot be used, and nobody said to do without" in said
    assert "fast     unusable: driver 4 is too old" in said


@situation("one for another SDK version beside a usable one", "an error: which to upgrade")
@pytest.mark.parametrize(("minor", "upgrade"), [(1, "upgrade jackfield"), (-1, "upgrade the plugin")])
def test_a_plugin_for_another_sdk_version_is_an_error_that_says_what_to_upgrade(site, minor, upgrade):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("usable", version=(API_VERSION[0], API_VERSION[1] + minor)))
    said = refusal()
    assert "fast cannot be used" in said
    assert upgrade in said
    assert find("plain").name == "plain"


CRASHES = {
    "it raises": ("def probe(): raise OSError('driver fell over')", "OSError: driver fell over"),
    "it hangs": ("import time\ndef probe(): time.sleep(600)", "no answer within 5 s"),
    "it kills its interpreter": ("import os\ndef probe(): os.kill(os.getpid(), 11)", "was ended by signal 11"),
}


@situation("one whose probe raises, hangs or kills its interpreter, beside a usable one", "an error: which it did")
@pytest.mark.parametrize("crash", CRASHES)
def test_a_probe_that_gives_no_answer_is_an_error(site, crash):
    source, why = CRASHES[crash]
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", f"API_VERSION = {API_VERSION}\n{source}")
    said = refusal(timeout=5.0)
    assert "cannot be used, and nobody said to do without" in said
    assert re.search(f"fast +broken: .*{why}", said)


@situation("one whose probe prints", "it is taken as if it was silent")
def test_what_a_probe_prints_is_no_answer(site):
    site.install("gadget", "import os\nprint('{}')\nos.write(1, b'noise')\n" + site.answers("usable"))
    assert find().name == "gadget"


@situation("any of those in trouble; another one named", "the named one is taken, and no other probe is run")
@pytest.mark.parametrize("trouble", ["broken", "unusable"])
def test_a_name_sets_the_others_trouble_aside(site, trouble):
    ran = f"open({str(site.log)!r}, 'w')\n"
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", ran + (BROKEN if trouble == "broken" else site.answers("unusable", why="driver too old")))
    assert find("plain").name == "plain"
    assert [(one.name, one.state) for one in survey("plain")] == [("fast", "not asked"), ("plain", "usable")]
    assert not site.log.exists()


@situation("several; one named by `--platform`", "it is taken, whatever the scores")
def test_the_option_names_a_platform(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("usable", score=100))
    said = CliRunner().invoke(jackfield, ["platforms", "--platform", "plain", "--json"])
    listed = json.loads(said.stdout)
    assert listed["selected"] == find("plain").name == "plain"
    assert [(one["name"], one["state"]) for one in listed["platforms"]] == [("fast", "not asked"), ("plain", "usable")]


@situation("several; one named by `JACKFIELD_PLATFORM`", "it is taken, whatever the scores; empty names none")
def test_the_variable_names_a_platform(site, monkeypatch):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("usable", score=100))
    monkeypatch.setenv("JACKFIELD_PLATFORM", "plain")
    assert find().name == "plain"
    monkeypatch.setenv("JACKFIELD_PLATFORM", "")
    assert find().name == "fast"


@situation("several; the option and the variable name two", "the option's is taken")
def test_the_option_beats_the_variable(site, monkeypatch):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("usable", score=100))
    monkeypatch.setenv("JACKFIELD_PLATFORM", "plain")
    assert find("fast").name == "fast"


@situation("a broken one, named, beside a usable one", "an error: why it is broken; the other is not taken")
def test_a_named_plugin_that_is_broken_says_why(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", BROKEN)
    said = refusal("fast")
    assert said.startswith("Wanted platform 'fast'; none usable.")
    assert "fast     broken: ModuleNotFoundError: No module named 'no_such_framework'" in said
    assert "plain    usable: 1 device" in said


@situation("an absent or unusable one, named, beside a usable one", "an error: why it is; the other is not taken")
@pytest.mark.parametrize("state", ["absent", "unusable"])
def test_a_named_platform_that_cannot_serve_is_no_reason_to_take_another(site, state):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers(state, why="no /dev/fast0"))
    said = refusal("fast")
    assert said.startswith("Wanted platform 'fast'; none usable.")
    assert f"fast     {state}: no /dev/fast0" in said
    assert "plain    usable: 1 device" in said


@situation("one; a name that nobody has", "an error that lists what there is; a near miss gets a suggestion")
def test_a_misspelt_name_is_answered_with_the_likely_one(site):
    site.install("gadget", site.answers("usable"))
    assert refusal("gadgte").startswith("Wanted platform 'gadgte'; none usable. Did you mean 'gadget'?")
    assert "gadget   usable: 1 device" in refusal("zzz")
    assert "Did you mean" not in refusal("zzz")


def by_name(site, state: str = "usable") -> str:
    """A probe module of a platform that is taken by its name only."""
    return site.answers(state, why="emulated", score=500).replace("score=500", "score=500, by_name_only=True")


@situation("only one that goes by name", "an error that says so")
def test_a_platform_that_goes_by_name_is_not_taken_without_it(site):
    site.install("emulated", by_name(site))
    assert refusal().splitlines() == [
        "Wanted a platform; none usable unless asked for by name. Installed plugins:",
        "  emulated by name: emulated",
        'Install one (pip install "jackfield[cpu]") or choose with --platform.',
    ]


@situation("one that goes by name beside a usable one", "the other is taken, even if the first is unusable")
@pytest.mark.parametrize("state", ["usable", "unusable"])
def test_a_platform_that_goes_by_name_is_in_nobody_s_way(site, state):
    site.install("plain", site.answers("usable", score=10))
    site.install("emulated", by_name(site, state))
    assert find().name == "plain"


@situation("one that goes by name, named", "it is taken")
def test_a_platform_that_goes_by_name_is_taken_by_name(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("emulated", by_name(site))
    assert find("emulated").name == "emulated"


@situation("one usable, whose plugin cannot be imported", "it is taken; loading it is an error: which to repair")
def test_a_plugin_that_cannot_be_imported_behind_a_fine_probe_is_an_error_when_loaded(site):
    site.install("plain", site.answers("usable", score=10), "")
    site.install("gadget", site.answers("usable"), "import no_such_framework")
    assert find().name == "gadget"
    with pytest.raises(PlatformError) as caught:
        load("gadget")
    assert str(caught.value).splitlines() == [
        "Wanted plugin 'gadget' (vendor_gadget_plugins); ModuleNotFoundError: No module named 'no_such_framework'",
        "Repair, upgrade or uninstall vendor-gadget 1.2.",
    ]


MEETING = """
import os, time
def probe():
    open({folder!r} + "/" + str(os.getpid()), "w").close()
    for _ in range(6000):
        if len(os.listdir({folder!r})) == 2:
            return Probe("usable", "both are here", devices=1, score=100)
        time.sleep(0.01)
    return Probe("unusable", "alone")
"""
FIND = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from jackfield_platforms.selection import find
found = find(timeout=60.0)
print(found.name, found.why)
"""


@situation("one usable; two processes that start at the same time", "both take it")
def test_two_processes_may_probe_at_the_same_time(site):
    """Each probe answers only when the other one runs too."""
    meeting = site.folder / "meeting"
    meeting.mkdir()
    site.install("gadget", site.answers("usable") + MEETING.format(folder=str(meeting)))
    command = [sys.executable, "-c", FIND, json.dumps(sys.path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate()[0] for one in both] == ["gadget both are here\n"] * 2
