"""`jackfield explain`, in a process of its own: a launch pins the process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from jackfield.cli import explain
from jackfield.embedded import EMBEDDED_MODEL
from jackfield.engine.explanation import Explanation, Refusal, Served
from jackfield_platforms.ops import OpTable, Unread


def explained(*words):
    command = [sys.executable, "-m", "jackfield", "explain", "--platform", "cpu", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def config_only(tmp_path_factory):
    """The embedded model's folder without its weights."""
    folder = tmp_path_factory.mktemp("config_only")
    for name in ("config.json", "generation_config.json"):
        shutil.copy(EMBEDDED_MODEL / name, folder / name)
    return str(folder)


def test_a_folder_without_weights_is_explained(config_only):
    done = explained("--model", config_only, "--dtype", "float32", "--json")
    said = json.loads(done.stdout)
    assert (said["platform"], said["model"], said["dtype"]) == ("cpu", config_only, "float32")
    assert [one["what"] for one in said["ops"]] == list(OpTable.__struct_fields__)
    assert [one["by"] for one in said["layers"]] == ["one fused call"], "the CPU's kernels were built"
    assert len(said["linears"]) == 1 + 4 * 4
    assert all(one["by"] for part in ("ops", "attention", "linears") for one in said[part])
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("kernels", "attention", "layers"),
    [("", "native", "one fused call"), ("none", "paged-torch", "cpu: JACKFIELD_CPU_KERNELS=none")],
)
def test_the_tables_hold_ops_attention_and_layers(kernels, attention, layers, monkeypatch):
    monkeypatch.setenv("JACKFIELD_CPU_KERNELS", kernels)
    said = explained("--dtype", "float32").stdout
    assert "LlamaForCausalLM" in said
    for words in ("reduce_add_rms_norm", attention, "model.layers.0-3.self_attn.qkv_proj", layers):
        assert words in said


def test_weights_quantised_on_line_are_explained_by_their_encoding():
    said = json.loads(explained("--dtype", "float32", "--quantization", "int8-g128", "--json").stdout)
    table, *layers = said["linears"]
    assert table["detail"].startswith("unquantized: 32-bit float, ")
    assert {one["by"] for one in layers} == {"torch-dequant"}
    assert all(one["detail"].startswith("int8-g128: 8-bit int in groups of 128, ") for one in layers)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--quantization", "int7"], "plain weights can be loaded as int4"),
        (["--model", "no-such-folder"], "Directory 'no-such-folder' does not exist"),
        (["--dtype", "int3"], "dtype must be auto or one of"),
        (["--platform", "cpuu"], "Did you mean 'cpu'?"),
    ],
)
def test_what_cannot_be_explained_is_an_error_in_one_line(words, said):
    done = explained(*words)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def explanation(by: str | None) -> Explanation:
    served = Served("layers 0-3", "2 query heads", by, (Refusal("fast", "wants [a] driver"),))
    unread = (Unread("rotary", "slow", "'fast' is listed before it and serves (float32)"),)
    return Explanation("gadget", "folder", "TinyForCausalLM", "float32", "float32", (), (served,), (), (), unread)


@pytest.mark.parametrize(("by", "name", "status"), [("plain", "plain", 0), (None, "nobody", 1)])
def test_refusals_and_unread_overrides_are_shown_and_what_nobody_serves_fails(run, monkeypatch, by, name, status):
    monkeypatch.setattr(explain, "explained", lambda options: explanation(by))
    result = run("explain")
    assert result.exit_code == status
    (row,) = (line for line in result.output.splitlines() if line.startswith("layers 0-3"))
    assert row.split(maxsplit=3)[2:] == [name, "not fast: wants [a] driver"]
    assert "override that nobody reads" in result.output
    assert "'fast' is listed before it" in result.output
