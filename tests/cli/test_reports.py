"""`platforms`, `doctor` and `bench`: for people, and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from jackfield.cli import doctor as doctor_module
from jackfield.cli import platforms as platforms_module
from jackfield.cli import software as software_module
from jackfield.cli.software import Software, required_software
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
    monkeypatch.setattr(platforms_module, "survey", lambda wanted: installed)
    monkeypatch.setattr(doctor_module, "discover", lambda: installed)
    return installed


def test_platforms_marks_the_one_that_a_launch_takes(run, found):
    found += [PLAIN]
    said = run("platforms").output
    assert "* plain" in said
    assert "8 cores" in said


def test_the_table_of_platforms_fits_80_columns_and_keeps_every_word(run, found, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    long = "ImportError: [cpu] " + "libdriver.so.1: cannot open shared object file: No such file or directory; " * 3
    found += [
        PLAIN,
        msgspec.structs.replace(FAST, name="strict-compiled", state="unusable", dist="jackfield-platforms", why=long),
    ]
    lines = run("platforms").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.rstrip().endswith("jackfield-platforms 2.0")]
    assert " ".join(long.split()) in " ".join(" ".join(lines).split())


def test_a_platform_that_is_taken_by_name_or_was_not_asked_is_shown_so(run, found):
    emulated = msgspec.structs.replace(PLAIN, name="emulated", by_name_only=True)
    found += [PLAIN, emulated, msgspec.structs.replace(FAST, state="not asked", why="", traceback=None)]
    lines = run("platforms").stdout.splitlines()
    assert [line.split()[:3] for line in lines if "vendor-" in line] == [
        ["*", "plain", "usable"],
        ["emulated", "by", "name"],
        ["fast", "not", "asked"],
    ]
    assert not [line for line in lines if "fast" in line and "0.00" in line]


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


@pytest.fixture
def metadata(monkeypatch):
    """What the metadata of "vendor-fast" requires, and what is installed: driver 4.1 and kernels 2.0+x."""
    lines = [
        "driver>=5",
        "kernels<3",
        "absent-runtime",
        "other-system>=1; sys_platform == 'nowhere'",
        "for-tests>=1; extra == 'test'",
        "no requirement at all",
    ]
    installed = {"driver": "4.1", "kernels": "2.0+x"}
    monkeypatch.setattr(software_module, "requires", lambda dist: lines if dist == "vendor-fast" else None)
    monkeypatch.setattr(software_module, "installed_version", installed.get)


def test_the_software_that_a_plugin_requires_is_told_with_what_does_not_fit(metadata):
    assert required_software("vendor-fast") == [
        Software("driver", ">=5", "4.1", fits=False),
        Software("kernels", "<3", "2.0+x", fits=True),
        Software("absent-runtime", "", None, fits=False),
        Software("no requirement at all", "a requirement that can be read", None, fits=False),
    ]
    assert required_software("vendor-plain") == []


def test_doctor_shows_what_each_plugin_s_distribution_requires(run, found, metadata):
    found += [PLAIN, FAST]
    said = run("doctor").stdout
    assert "vendor-plain requires nothing" in said
    rows = said.partition("vendor-fast requires\n")[2].splitlines()
    assert [row.split(maxsplit=1) for row in rows[:3]] == [
        ["driver", "4.1; wanted >=5"],
        ["kernels", "2.0+x"],
        ["absent-runtime", "not installed; wanted any"],
    ]
    assert json.loads(run("doctor", "--json").stdout)["software"]["vendor-fast"][0]["fits"] is False


def jackfield(*words, status=0):
    """What a command prints in a process of its own: a launch pins the process."""
    done = subprocess.run([sys.executable, "-m", "jackfield", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout


def test_doctor_asks_every_attention_backend_about_a_model():
    said = json.loads(jackfield("doctor", "--platform", "cpu", "--model", "--json"))
    (group,) = said["model"]["attention"]
    assert group["layers"] == "0-3"
    assert len(group["backends"]) > 1
    assert all(why is None for _, why in group["backends"])
    assert [name for name, _ in group["backends"]] == said["device"]["attention_backends"]


def test_doctor_fails_where_the_model_cannot_be_read(tmp_path):
    said = json.loads(jackfield("doctor", "--platform", "cpu", "--model", str(tmp_path), "--json", status=1))
    assert "holds no config.json" in said["model"]["error"]
    assert said["device"] is not None


def test_doctor_says_which_device_would_serve():
    said = json.loads(jackfield("doctor", "--platform", "cpu", "--json"))
    assert said["model"] is None
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
