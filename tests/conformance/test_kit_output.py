"""What a vendor reads: failures in a few lines, the list of checks, what was not offered; and all of it in the JSON."""

from __future__ import annotations

import json
from collections import Counter

import fault_platform
import faulty_attention as attention
import faulty_parts as parts
import pytest

from jackfield_platforms.ops import Impl, OpTable
from jackfield_platforms.testing.conformance import command as commands
from jackfield_platforms.testing.conformance.__main__ import main
from jackfield_platforms.testing.conformance.arguments import ARGUMENTS
from jackfield_platforms.testing.conformance.run import ConformanceError, KitOptions, check, list_checks
from jackfield_platforms.testing.conformance.subject import load_subject
from jackfield_platforms.testing.conformance.telling import failures, not_offered

AGAIN = "jackfield conformance strict --seeds 1"


def found(match, **replaced):
    return check(fault_platform.subject(**replaced), KitOptions(seeds=1, match=match))


@pytest.fixture
def typed(monkeypatch, capsys):
    """`typed(subject, *words)` gives the status and the lines that the command prints."""

    def run(subject, *words):
        monkeypatch.setattr(commands, "run", lambda platform, options: check(subject, options))
        status = main(["strict", *words])
        return status, capsys.readouterr().out.splitlines()

    return run


def test_a_failure_is_what_was_wanted_and_found_its_seed_and_how_to_run_it_alone():
    report = found("check_decode", backend=attention.MaskOffByOne)
    told = failures(report, AGAIN).splitlines()
    failed = [one for one in report.results if one.outcome == "failed"]
    assert told[1] == f"FAILED check_decode, {len(failed)} of {len(report.results)} cases"
    assert told[2] == f"  {failed[0].check}"
    assert " wanted " in told[3]
    assert " found " in told[3]
    assert told[4] == f"    seed 0; alone: {AGAIN} -k '{failed[0].case}'"
    assert told[-1] == f"  and {len(failed) - 3} more, which --json writes; all: {AGAIN} -k check_decode"
    assert len(told) < 15
    assert "mismatch.py" not in "\n".join(told)


def test_nothing_is_hidden_from_the_json():
    report = found("check_decode", backend=attention.MaskOffByOne)
    failed = [one for one in json.loads(report.to_json())["results"] if one["outcome"] == "failed"]
    assert len(failed) == report.count("failed") > 3
    for one in failed:
        assert one["told"] in one["message"].replace("\nE   ", "\n")
        assert "in check_decode" in one["message"]
        assert (one["seed"], one["raised_at"]) == (0, "")


def test_where_the_plugin_raised_its_own_line_is_shown():
    report = found("check_an_accepted_need_runs", backend=attention.AcceptsWhatItCannotRun)
    told = failures(report, AGAIN)
    assert "scene.py" not in told
    assert "torch/" not in told
    (line,) = (line for line in told.splitlines() if "raised at" in line)
    assert line.startswith("    raised at tests/conformance/faulty_attention.py:")
    assert ", in run: " in line
    assert "scene.py" in next(one.message for one in report.results if one.outcome == "failed")


def test_a_family_whose_cases_cannot_be_made_tells_the_plugin_s_line():
    told = failures(found("check_prefill", backend=attention.FailsWhenAsked), AGAIN)
    assert "FAILED attention_checks.py: the cases of its checks could not be made" in told
    assert "faulty_attention.py:" in told
    assert ", in rejects: " in told


def test_cases_whose_messages_differ_come_first():
    report = found("check_rms_norm or check_silu_mul", ops=OpTable(rms_norm=(Impl("faulty", parts.rms_norm_in_place),)))
    told = [one.told for one in report.results if one.outcome == "failed"]
    assert len(set(told)) == 1, "one message in all cases"
    assert failures(report, AGAIN).count(told[0]) == min(3, len(told))


@pytest.mark.parametrize("name", ["faulty", "fast (v2), not slow"])
def test_the_name_of_a_case_chooses_it_alone(name):
    ops = OpTable(silu_mul=(Impl(name, parts.silu_in_place),))
    report = found("check_silu_mul", ops=ops)
    failed = [one for one in report.results if one.outcome == "failed"]
    assert failed
    for match in (failed[0].case, failed[0].check):
        again = found(match, ops=ops)
        assert [(one.check, one.told) for one in again.results] == [(failed[0].check, failed[0].told)]


def test_pages_of_a_message_are_cut_short_where_they_are_printed():
    def raises(gate_up):
        raise ValueError("\n".join(map(str, range(100))))

    report = found("check_silu_mul", ops=OpTable(silu_mul=(Impl("faulty", raises),)))
    told = failures(report, AGAIN)
    assert "... (93 lines more)" in told
    assert report.results[0].told == "ValueError: " + "\n".join(map(str, range(100)))


def test_tracebacks_are_printed_on_demand(typed):
    subject = fault_platform.subject(backend=attention.AcceptsWhatItCannotRun)
    words = ("--seeds", "1", "-k", "check_an_accepted_need_runs")
    assert "scene.py" not in "\n".join(typed(subject, *words)[1])
    assert "scene.py" in "\n".join(typed(subject, *words, "--tb", "short")[1])


def test_what_was_not_offered_stands_before_the_last_line_with_what_it_needs(typed):
    status, said = typed(fault_platform.subject(), "--seeds", "1", "-k", "fused_layer or capabilities")
    assert status == 0
    assert said[-1] == "1 passed, 0 failed"
    told = " ".join(said[said.index("Not offered, so not checked (1):") + 1 : -1]).split()
    assert " ".join(told) == (
        "check_fused_layer: no case of `fused`, which takes a `fuse` that returns a function, not a reason, for one of "
        "the kit's decoder layers"
    )


def test_where_everything_was_offered_nothing_is_said_of_it():
    assert not_offered(found("capabilities")) == ""
    assert failures(found("capabilities"), AGAIN) == ""


def test_every_argument_says_what_it_needs():
    assert [name for name, argument in ARGUMENTS.items() if not argument.needs.strip()] == []


def test_the_list_names_every_check_counts_its_cases_and_runs_none():
    options = KitOptions(seeds=2, match="platform_checks or ops_checks or fuse_checks")
    report = check(load_subject("strict"), options)
    listed = {one.check: one for one in list_checks("strict", options)}  # which raises where anything has a result
    cases = Counter(one.function for one in report.results if one.outcome != "not offered")
    assert {name: one.num_cases for name, one in listed.items() if one.num_cases} == dict(cases)
    lacking = {one.function: one.told for one in report.results if one.outcome == "not offered"}
    assert {name: one.needs for name, one in listed.items() if not one.num_cases} == lacking
    assert listed["check_one_rank_talks_to_itself"].about == "Collectives of one rank are the identity."


def test_the_list_is_printed_under_its_modules(capsys):
    assert main(["strict", "--list", "-k", "check_memory_adds_up or check_fused_layer", "--seeds", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["fuse_checks.py", "  check_fused_layer: 0 cases"]
    assert any(line.lstrip().startswith("no case of `fused`") for line in said)
    assert said[said.index("memory_checks.py") + 1] == "  check_memory_adds_up: 1 case"
    assert said[-1] == "2 checks, 1 case with 1 seed"


@pytest.mark.parametrize("words", [("--json", "r.json"), ("--junit", "r.xml"), ("--tb", "short")])
def test_a_list_has_no_results_to_write(words, capsys):
    assert main(["strict", "--list", *words]) == 2
    assert f"so that {words[0]} would have nothing to show" in capsys.readouterr().err


def test_a_list_whose_cases_cannot_be_made_says_why(monkeypatch):
    subject = fault_platform.subject(backend=attention.FailsWhenAsked)
    monkeypatch.setattr("jackfield_platforms.testing.conformance.run._launched", lambda platform: subject)
    with pytest.raises(ConformanceError, match=r"attention_checks\.py could not be made: .*faulty_attention\.py:"):
        list_checks("strict", KitOptions())


@pytest.mark.parametrize("more", [[], ["--list"]])
def test_an_expression_that_chooses_nothing_is_an_error_that_names_the_list(more, capsys):
    assert main(["strict", "-k", "check_rms_nrm", *more]) == 2
    said = capsys.readouterr().err
    assert "'check_rms_nrm' chooses none. Did you mean 'check_rms_norm'? --list shows their names" in said


def test_the_core_s_command_lists_and_refuses_as_the_sdk_s_does(capsys):
    from jackfield.cli.conformance import command

    with pytest.raises(SystemExit) as end:
        command(["strict", "--list", "-k", "check_masks_forbid_ids", "--seeds", "1"], standalone_mode=False)
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines()[0] == "sampler_checks.py"
    with pytest.raises(ConformanceError, match="--list shows their names"):
        command(["strict", "-k", "no_such_check"], standalone_mode=False)


def test_attention_that_does_not_compile_is_told_with_its_line_and_what_to_do():
    told = failures(found("check_attention_is_one_graph", backend=attention.LooksAtAValue), AGAIN)
    assert "does not compile as one graph" in told
    assert "faulty_attention.py:" in told
    assert "compute them in `plan`, or keep them in tensors" in told
    assert "Developer debug context" not in told
