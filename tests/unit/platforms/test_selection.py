"""Selection never guesses."""

from __future__ import annotations

import pytest

from jackfield_platforms import API_VERSION
from jackfield_platforms.selection import PlatformError, find

BROKEN = f"API_VERSION = {API_VERSION}\nimport no_such_framework"


def test_without_plugins_the_error_says_how_to_get_one(site):
    with pytest.raises(PlatformError, match=r"none usable\. No plugin is installed\.\nInstall one \(pip install"):
        find()


def test_a_single_usable_plugin_is_taken(site):
    site.install("gadget", site.answers("usable"))
    assert find().name == "gadget"


def test_an_accelerator_beats_the_processor(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("usable", score=100))
    assert find().name == "fast"


def test_an_absent_device_is_fine(site):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("absent", why="no /dev/fast0", score=0))
    assert find().name == "plain"


def test_when_all_are_absent_each_says_why(site):
    site.install("plain", site.answers("absent", why="wrong instruction set"))
    site.install("fast", site.answers("absent", why="no /dev/fast0"))
    with pytest.raises(PlatformError) as caught:
        find()
    assert str(caught.value).splitlines() == [
        "Wanted a platform; none usable. Installed plugins:",
        "  fast     absent: no /dev/fast0",
        "  plain    absent: wrong instruction set",
        'Install one (pip install "jackfield[cpu]") or choose with --platform.',
    ]


def test_a_tie_is_an_error_that_names_both(site):
    for name in ("left", "right"):
        site.install(name, site.answers("usable", score=50))
    with pytest.raises(PlatformError, match="share the highest score, 50") as caught:
        find()
    assert "left (vendor-left 1.2), right (vendor-right 1.2)" in str(caught.value)


def test_a_tie_is_settled_by_a_name(site):
    for name in ("left", "right"):
        site.install(name, site.answers("usable", score=50))
    assert find("right").name == "right"


@pytest.mark.parametrize("trouble", [BROKEN, "unusable"])
def test_trouble_beside_a_usable_device_is_an_error(site, trouble):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", BROKEN if trouble == BROKEN else site.answers("unusable", why="driver too old"))
    with pytest.raises(PlatformError, match="fast cannot be used, and nobody said to do without") as caught:
        find()
    assert ("no_such_framework" if trouble == BROKEN else "driver too old") in str(caught.value)


@pytest.mark.parametrize("trouble", [BROKEN, "unusable"])
def test_a_name_sets_the_others_trouble_aside(site, trouble):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", BROKEN if trouble == BROKEN else site.answers("unusable", why="driver too old"))
    assert find("plain").name == "plain"


@pytest.mark.parametrize("state", ["absent", "unusable"])
def test_a_named_platform_that_cannot_serve_is_no_reason_to_take_another(site, state):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers(state, why="no /dev/fast0"))
    with pytest.raises(PlatformError, match=r"Wanted platform 'fast'; none usable\.") as caught:
        find("fast")
    assert f"fast     {state}: no /dev/fast0" in str(caught.value)
    assert "plain    usable: 1 device" in str(caught.value)


def test_a_named_plugin_that_is_broken_says_why(site):
    site.install("fast", BROKEN)
    with pytest.raises(PlatformError, match="broken: ModuleNotFoundError: No module named 'no_such_framework'"):
        find("fast")


def test_a_misspelt_name_is_answered_with_the_likely_one(site):
    site.install("gadget", site.answers("usable"))
    with pytest.raises(PlatformError, match=r"Wanted platform 'gadgte'; none usable\. Did you mean 'gadget'\?"):
        find("gadgte")


def test_the_variable_names_a_platform_and_the_argument_beats_it(site, monkeypatch):
    site.install("plain", site.answers("usable", score=10))
    site.install("fast", site.answers("usable", score=100))
    monkeypatch.setenv("JACKFIELD_PLATFORM", "plain")
    assert find().name == "plain"
    assert find("fast").name == "fast"
    monkeypatch.setenv("JACKFIELD_PLATFORM", "")
    assert find().name == "fast"


def test_two_distributions_with_one_name_are_an_error_even_when_named(site):
    site.install("gadget", site.answers("usable"), dist="vendor-one")
    site.install("gadget", site.answers("usable"), dist="vendor-two")
    with pytest.raises(PlatformError, match=r"gadget \(vendor-one 1\.2\), gadget \(vendor-two 1\.2\) go by that name"):
        find("gadget")
