"""`platforms`, `doctor` and `bench`: for people, and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from jackfield.cli import platforms as platforms_module
from jackfield.config.options import EngineOptions
from jackfield_platforms.discovery import Found

PLAIN = Found(
    "plain", "vendor-plain", "1.2", "plain.probe", "usable", "8 cores", devices=1, score=10, api_version=(0, 1)
)
FAST = Found(
    "fast", "vendor-fast", "2.0", "fast.probe", "broken", "ImportError: no driver", traceback="Traceback: here"
)


@pytest.fixture
def found(monkeypatch):
    """What discovery finds, as a list to fill."""
    monkeypatch.delenv("JACKFIELD_PLATFORM", raising=False)
    installed: list[Found] = []
    monkeypatch.setattr(platforms_module, "discover", lambda: installed)
    return installed


def test_platforms_marks_the_one_that_a_launch_takes(run, found):
    found += [PLAIN]
    said = run("platforms").output
    assert "*  plain" in said
    assert "8 cores" in said


def test_platforms_as_json_says_everything(run, found):
    found += [PLAIN, FAST]
    said = json.loads(run("platforms", "--json").stdout)
    assert said["selected"] is None
    assert "fast cannot be used" in said["error"]
    assert [one["state"] for one in said["platforms"]] == ["usable", "broken"]
    assert said["platforms"][1]["traceback"] == "Traceback: here"
    assert said["platforms"][0] == json.loads(msgspec.json.encode(PLAIN))


def test_a_named_platform_is_selected_beside_a_broken_one(run, found):
    found += [PLAIN, FAST]
    assert json.loads(run("platforms", "--json", "--platform", "plain").stdout)["selected"] == "plain"


def test_platforms_without_any_says_how_to_get_one(run, found):
    result = run("platforms")
    assert result.exit_code == 0
    assert 'pip install "jackfield[cpu]"' in result.output


def test_doctor_shows_tracebacks_and_fails_without_a_platform(run, found):
    found += [FAST]
    result = run("doctor")
    assert result.exit_code == 1
    assert "Traceback: here" in result.output
    assert "jackfield-platforms" in result.output


def test_doctor_says_which_device_would_serve():
    command = [sys.executable, "-m", "jackfield", "doctor", "--platform", "cpu", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True
    )  # a launch pins the process: not this one
    said = json.loads(done.stdout)
    assert said["device"]["torch_device"].startswith("cpu")
    assert 0 < said["device"]["memory_free"] <= said["device"]["memory_total"]
    assert said["device"]["attention_backends"]
    assert said["versions"]["torch"]


class Throughput(msgspec.Struct):
    """A result such as a measurement returns."""

    tokens_per_second: float


@pytest.mark.parametrize(
    ("words", "module", "args", "kwargs"),
    [
        (
            ["offline", "folder", "--num-prompts", "3", "--input-len", "5", "--output-len", "6", "--seed", "9"],
            "jackfield.bench.offline",
            (EngineOptions(model="folder", seed=9),),
            {"num_prompts": 3, "input_len": 5, "output_len": 6},
        ),
        (["host", "--num-seqs", "2"], "jackfield.bench.host", (), {"num_seqs": 2, "num_steps": 200}),
    ],
)
def test_bench_measures_what_it_is_told_to(run, calls, replace_module, monkeypatch, words, module, args, kwargs):
    monkeypatch.delenv("JACKFIELD_PLATFORM", raising=False)
    calls.answer = Throughput(12.5)
    replace_module(module, run=calls)
    assert run("bench", *words).output == "tokens_per_second  12.5\n"
    assert json.loads(run("bench", *words, "--json").output) == {"tokens_per_second": 12.5}
    assert calls == [(args, kwargs)] * 2
