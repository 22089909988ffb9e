"""The kit passes on the platforms that are here, leaves nothing out unsaid, and is run by both commands."""

from __future__ import annotations

import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from jackfield_platforms.selection import PlatformError
from jackfield_platforms.testing.conformance import run as running
from jackfield_platforms.testing.conformance.__main__ import main
from jackfield_platforms.testing.conformance.run import ConformanceError, KitOptions, check
from jackfield_platforms.testing.conformance.subject import load_subject

# what a platform without planned sizes cannot be asked, and what one that plans no padded rows cannot; neither counts
# its memory
NOT_OFFERED = {
    "cpu": {
        "check_watched_memory_is_what_was_taken",
        "check_larger_buckets_come_first",
        "check_a_static_plan_survives_json",
        "check_outputs_keep_their_address",
        "check_one_plan_serves_fifty_layouts",
        "check_captured_attention_follows_its_plan",
        "check_pieces_equal_eager_on_new_contents",
        "check_pieces_of_two_sizes_do_not_disturb_each_other",
        "check_what_runs_between_pieces_is_not_replayed",
    },
    "strict": {
        "check_watched_memory_is_what_was_taken",
        "check_rows_padded_to_one_length",
        "check_fused_layer",
        "check_experts",
        "check_two_ranks_agree",
        "check_an_elastic_run_equals_the_program_at_every_size",
        "check_elastic_attention_follows_its_plan",
        "check_two_elastic_captures_do_not_disturb_each_other",
    },
}


@pytest.mark.parametrize("platform", NOT_OFFERED)
def test_a_platform_conforms(platform):
    report = check(load_subject(platform), KitOptions(seeds=2))
    assert report.failed_checks() == set()
    assert report.conforms
    assert report.count("passed") > 500
    unasked = {result.check for result in report.results if result.outcome == "not offered"}
    assert {check.partition("::")[2].partition("[")[0] for check in unasked} == NOT_OFFERED[platform]


def test_a_whole_model_conforms(monkeypatch, capsys):
    from jackfield.cli.conformance import command

    with pytest.raises(SystemExit) as end:
        command(
            ["strict", "--model-parity", "--seeds", "1", "-k", "tokens_of or after_the_warm_up"], standalone_mode=False
        )
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 passed, 0 failed"


def test_the_command_writes_its_reports_and_ends_with_the_counts(tmp_path):
    words = ["strict", "--seeds", "1", "-k", "capabilities or fetched", "--json", "r.json", "--junit", "r.xml"]
    command = [sys.executable, "-m", "jackfield_platforms.testing.conformance", *words]
    (tmp_path / "conftest.py").write_text("raise AssertionError('the folder that it is started in plays no part')")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 passed, 0 failed"
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["platform"], report["passed"], report["failed"]) == ("strict", 2, 0)
    assert report["results"][0]["check"].startswith("platform_checks.py::check_")
    assert len(list(ElementTree.parse(tmp_path / "r.xml").iter("testcase"))) == 2


def test_a_platform_that_is_not_installed_is_named(capsys):
    with pytest.raises(PlatformError, match="Wanted platform 'nowhere'"):
        running.run("nowhere", KitOptions())
    assert main(["nowhere"]) == 2
    assert "Wanted platform 'nowhere'" in capsys.readouterr().err


def test_without_pytest_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(ConformanceError, match=r"jackfield-platforms\[test\]"):
        running.run("strict", KitOptions())


def test_an_expression_that_pytest_cannot_read_is_an_error():
    with pytest.raises(ConformanceError, match="ended with status 4"):
        check(load_subject("strict"), KitOptions(match="(("))


def test_a_run_of_what_is_not_offered_alone_is_no_success():
    report = check(load_subject("strict"), KitOptions(match="check_fused_layer"))
    assert not report.conforms
    assert report.last_line == "0 passed, 0 failed"
