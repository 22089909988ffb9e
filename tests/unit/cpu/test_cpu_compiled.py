"""torch.compile and Intel's extension in the place of our kernels: what runs, and what says why it does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch._dynamo.utils import counters

from jackfield_cpu import compiled
from jackfield_cpu.compiled import CompiledPrograms
from jackfield_platforms.bucket import Bucket
from jackfield_platforms.graph import ProgramKey

ANSWERS = """
from jackfield import LLM, SamplingParams
llm = LLM(dtype="float32")
sampling = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
outputs = llm.generate(["The list type", "A", "import json"], sampling, use_tqdm=False)
print([output.outputs[0].token_ids for output in outputs])
"""


def answers(choice: str) -> str:
    environ = {**os.environ, "JACKFIELD_CPU_KERNELS": choice}
    done = subprocess.run([sys.executable, "-c", ANSWERS], env=environ, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # of torch, about its own
def test_a_program_is_compiled_once_and_runs_at_any_size() -> None:
    runner, weight = CompiledPrograms(), torch.randn(32, 32)
    counters.clear()
    for rows in (7, 2, 33, 12):
        x = torch.randn(rows, 32)
        key = ProgramKey("forward", Bucket("mixed", rows, rows))
        got = runner.run(key, lambda x: torch.relu(x @ weight).sum(-1), (x,))
        assert torch.allclose(got, torch.relu(x @ weight).sum(-1), atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


def test_without_a_compiler_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"torch\.compile needs a C\+\+ compiler; neither g\+\+"):
        CompiledPrograms()


def test_intels_extension_is_refused_with_the_reason() -> None:
    assert "none of its releases (the last is 2.8.0) works with torch" in answers("ipex")


@pytest.mark.long
def test_compiled_programs_answer_as_our_kernels_do() -> None:
    assert answers("torch.compile") == answers("") != ""
