"""`benchmarks/gpu.py` works before a GPU is there: every part of it, in small, under the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu.py"


@pytest.mark.long
def test_every_part_gives_its_figures(tmp_path):
    found = tmp_path / "found.json"
    words = ["--platform", "cuda-interpreted", "--tiny", "--minutes", "60", "--json", str(found)]
    environ = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout
    said = json.loads(found.read_text())
    assert set(said) == {"copy", "product", "check", "attention", "prefill", "model", "mix"}
    assert said["check"].endswith("0 failed")
    assert [(one["batch"], one["context"]) for one in said["attention"]] == [(1, 70), (2, 70)]
    assert len(said["prefill"]) == 2
    cases = {(one["batch"], one["graphs"], one["overlap"]) for one in said["model"]}
    assert cases == {
        (batch, graphs, overlap) for batch in (1, 2) for graphs in (True, False) for overlap in ("on", "off")
    }
    assert said["mix"]["output_tokens_per_second"] > 0
