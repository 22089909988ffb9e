"""The engine in a process of its own: it answers, it tells why it cannot start, it never outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from jackfield.config.options import EngineOptions
from jackfield.engine.client import ProcessEngine, start_engine
from jackfield.engine.messages import EngineOutput, EngineRequest
from jackfield.frontend.engine_client import EngineDeadError
from jackfield.sampling_params import SamplingParams

OPTIONS = EngineOptions(platform="cpu", max_num_seqs=8, max_model_len=512, kv_cache_memory=32 << 20)


def request(name: str, max_tokens: int) -> EngineRequest:
    return EngineRequest(name, [5, 6, 7, 8], SamplingParams(temperature=0, seed=0, max_tokens=max_tokens))


async def read(engine: ProcessEngine, name: str) -> list[EngineOutput]:
    """Outputs of one request to its end."""
    outputs: list[EngineOutput] = []
    while not outputs or outputs[-1].finish_reason is None:
        outputs += [output for output in (await engine.outputs()).each() if output.id == name]
    return outputs


def test_it_answers_aborts_and_drains() -> None:
    async def scenario() -> None:
        engine = await start_engine(OPTIONS)
        free = (await engine.stats()).num_free_blocks
        assert engine.model.max_model_len == 512
        assert "platform   cpu" in engine.startup_text
        await engine.add([request("a", 10), request("long", 500)])
        tokens = [id for output in await read(engine, "a") for id in output.token_ids]
        assert len(tokens) == 10
        await engine.abort(["long", "unknown"])
        assert (await read(engine, "long"))[-1].finish_reason == "abort"
        assert (await engine.stats()).num_free_blocks == free
        await engine.add([request("too long", 9), EngineRequest("x", list(range(600)), SamplingParams(seed=0))])
        assert "511" in ((await read(engine, "x"))[-1].error or "")
        await engine.add([request("last", 30)])
        closing = asyncio.create_task(engine.close(drain=True))
        assert sum(len(output.token_ids) for output in await read(engine, "last")) == 30
        await closing
        assert not engine.is_alive

    asyncio.run(scenario())


def test_it_says_why_it_cannot_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(EngineDeadError, match=r"config\.json"):
            await start_engine(EngineOptions(platform="cpu", model=str(tmp_path)))
        with pytest.raises(EngineDeadError, match="platform 'nonesuch'"):
            await start_engine(EngineOptions(platform="nonesuch"))

    asyncio.run(scenario())


def test_everyone_who_waits_hears_when_it_is_killed() -> None:
    async def scenario() -> None:
        engine = await start_engine(OPTIONS)
        await engine.add([request("a", 500)])
        await engine.outputs()
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineDeadError, match="signal 9"):
            await read(engine, "nobody's")
        with pytest.raises(EngineDeadError):
            await engine.add([request("b", 5)])
        with pytest.raises(EngineDeadError):
            await engine.stats()
        assert not engine.is_alive
        await engine.close(drain=False)

    asyncio.run(scenario())


def test_everyone_who_waits_hears_when_another_rank_is_killed() -> None:
    async def scenario() -> None:
        engine = await start_engine(msgspec.structs.replace(OPTIONS, tensor_parallel_size=2))
        assert "ranks      2 processes" in engine.startup_text
        await engine.add([request("a", 10), request("long", 500)])
        assert sum(len(output.token_ids) for output in await read(engine, "a")) == 10
        (rank,) = Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()
        os.kill(int(rank), signal.SIGKILL)
        with pytest.raises(EngineDeadError, match="rank 1 of 2 ended by signal 9"):
            await read(engine, "long")
        assert not engine.is_alive
        await engine.close(drain=False)

    asyncio.run(scenario())


ORPHAN = """
import asyncio, sys
from jackfield.config.options import EngineOptions
from jackfield.engine.client import start_engine
async def main():
    engine = await start_engine(EngineOptions(platform="cpu", max_model_len=512, kv_cache_memory=32 << 20))
    print(engine.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_an_engine_without_a_parent_ends_itself() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
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
    raise AssertionError("the engine outlived its parent")


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that nobody has read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
