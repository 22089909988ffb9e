"""torch.compile in the place of our kernels."""

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
    return subprocess.run(
        [sys.executable, "-c", ANSWERS], env=environ, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


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


@pytest.mark.long
def test_compiled_programs_answer_as_our_kernels_do() -> None:
    assert answers("torch.compile") == answers("") != ""
