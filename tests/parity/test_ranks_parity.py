"""Greedy tokens of a model that two processes share are the twin's; a rank that dies is told of, and none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_runs import ALL, GREEDY, check, engine_for, run
from small_models import SmallModel

from jackfield.config.json_fields import ConfigError
from jackfield.engine.engine import Engine
from jackfield.engine.messages import EngineRequest
from jackfield.engine.step import ExecutorLost
from jackfield_platforms.refusal import Refused

pytestmark = pytest.mark.filterwarnings("ignore:torch was imported before")


@pytest.fixture(autouse=True)
def _keep_affinity():
    """Rank 0 binds this process to its share of the CPUs."""
    cpus = os.sched_getaffinity(0) if sys.platform == "linux" else None
    yield
    if cpus is not None:
        os.sched_setaffinity(0, cpus)


def two_ranks(small: SmallModel, **options) -> Engine:
    return engine_for(small, tensor_parallel_size=2, **options)


def finish(engine: Engine) -> None:
    while engine.has_work:
        engine.step()


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that nobody has read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_tokens_are_those_of_one_rank_whole_chunked_and_cached(small: SmallModel) -> None:
    """Overlapped: the next step's tokens come from rank 0 while its results are on their way."""
    if small.name == "deepseek":
        with pytest.raises(Refused, match="not split over ranks"):
            two_ranks(small)
        return
    engine = two_ranks(small, overlap="on", max_num_batched_tokens=32, max_num_seqs=8)
    (pid,) = engine._executor._others.pids
    free = engine.stats().num_free_blocks
    check(small, run(engine, small))
    check(small, run(engine, small, ALL[2:5]))
    assert engine.stats().num_free_blocks == free
    assert "ranks      2 processes" in engine.startup_text
    assert is_running(pid)
    engine.close()
    assert not is_running(pid)


def test_a_rank_that_dies_ends_the_requests_with_a_reason(small: SmallModel) -> None:
    if small.name != "llama":
        pytest.skip("one model is enough")
    engine = two_ranks(small, max_num_seqs=8)
    (pid,) = engine._executor._others.pids
    engine.add(EngineRequest("0", small.prompts[2], GREEDY))
    for _ in range(5):
        engine.step()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ExecutorLost, match="rank 1 of 2 ended by signal 9"):
        finish(engine)
    with pytest.raises(ExecutorLost, match="start the engine again"):
        engine.step()
    engine.close()


def test_a_rank_without_rank_0_ends_itself(small: SmallModel) -> None:
    if small.name != "llama":
        pytest.skip("one model is enough")
    code = f"""
import time
from jackfield.config.options import EngineOptions
from jackfield.engine.build import build_engine
options = EngineOptions(model={str(small.path)!r}, platform="cpu", tensor_parallel_size=2, kv_cache_memory=8 << 20)
engine = build_engine(options, progress=False)
print(*engine._executor._others.pids, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if not is_running(pid):
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the rank outlived rank 0")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "tensor_parallel_size must be at least 1; got 0"),
        (4, r"tensor_parallel_size \(4\) must divide the model's num_attention_heads \(6\)"),
        (3, r"tensor_parallel_size \(3\) must divide the model's intermediate_size \(160\)"),
    ],
)
def test_a_size_that_does_not_divide_is_refused_by_field(small: SmallModel, size: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        engine_for(small, tensor_parallel_size=size)


def test_a_platform_of_one_rank_refuses_two(small: SmallModel) -> None:
    with pytest.raises(ConfigError, match="tensor_parallel_size must be at most 1 on this platform; got 2"):
        engine_for(small, platform="strict", tensor_parallel_size=2)


def test_a_rank_that_cannot_load_is_named(small: SmallModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in rank 1's way alone: a variable that keeps its Python from importing anything of ours."""
    if small.name != "llama":
        pytest.skip("one model is enough")
    (tmp_path / "jackfield.py").write_text("raise SystemExit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ExecutorLost, match="rank 1 of 2 ended with status 7"):
        two_ranks(small)
