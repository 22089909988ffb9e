from __future__ import annotations

import asyncio
import itertools

import pytest
from scripted_engine import ANSWER, ScriptedEngine
from server_kit import Go, Servers

from jackfield import AsyncLLM, SamplingParams
from jackfield.field_error import FieldError
from jackfield.frontend.engine_client import EngineDeadError
from jackfield.frontend.frontend import Frontend

LONG = SamplingParams(max_tokens=400)


def opened(servers: Servers, engine: ScriptedEngine) -> AsyncLLM:
    return AsyncLLM(frontend=Frontend(engine, servers.tokenizer))


def test_each_output_holds_all_so_far(servers: Servers, go: Go) -> None:
    async def test() -> None:
        llm = opened(servers, ScriptedEngine(servers.tokenizer))
        outputs = [output async for output in llm.generate("Hi", LONG, "mine")]
        texts = [output.outputs[0].text for output in outputs]
        assert len(texts) > 3
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
        assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]
        assert (texts[-1], outputs[-1].request_id, outputs[-1].num_cached_tokens) == (ANSWER, "mine", 2)
        await llm.shutdown()

    go(test())


def test_leaving_the_loop_frees_the_engine(servers: Servers, go: Go) -> None:
    async def test() -> None:
        engine = ScriptedEngine(servers.tokenizer, repeat=40)
        llm = opened(servers, engine)
        answers = llm.generate("Hi", LONG)
        async for _ in answers:
            break
        await answers.aclose()  # type: ignore[attr-defined]
        while engine.num_running:
            await asyncio.sleep(0.001)
        assert llm.frontend is not None
        assert llm.frontend.num_live == 0
        await llm.shutdown()

    go(test())


def test_abort_ends_the_iterator(servers: Servers, go: Go) -> None:
    async def test() -> None:
        engine = ScriptedEngine(servers.tokenizer, repeat=40)
        llm = opened(servers, engine)
        last = None
        async for output in llm.generate("Hi", LONG, "mine"):
            last = output
            await llm.abort("mine")
        assert last is not None
        assert (last.finished, last.outputs[0].finish_reason) == (True, "abort")
        await llm.abort("nobody")
        while engine.num_running:
            await asyncio.sleep(0.001)
        await llm.shutdown()

    go(test())


def test_errors_reach_the_caller(servers: Servers, go: Go) -> None:
    async def test() -> None:
        engine = ScriptedEngine(servers.tokenizer)
        llm = opened(servers, engine)
        with pytest.raises(FieldError, match="empty"):
            await anext(llm.generate([], LONG))
        engine.hold()
        waiting = asyncio.create_task(anext(llm.generate("Hi", LONG)))
        while not engine.num_running:
            await asyncio.sleep(0.001)
        engine.die("out of memory")
        with pytest.raises(EngineDeadError, match="out of memory"):
            await waiting
        with pytest.raises(EngineDeadError, match="out of memory"):
            await anext(llm.generate("Hi", LONG))
        await llm.shutdown()

    go(test())


def test_an_id_in_use_is_refused_and_hurts_nobody(servers: Servers, go: Go) -> None:
    async def test() -> None:
        llm = opened(servers, ScriptedEngine(servers.tokenizer))
        first = llm.generate("Hi", LONG, "same")
        await anext(first)
        with pytest.raises(ValueError, match="in use"):
            await anext(llm.generate("Hi", LONG, "same"))
        (*_, last) = [output async for output in first]
        assert last.outputs[0].text == ANSWER
        await llm.shutdown()

    go(test())


def test_long_prompts_are_tokenised_beside_the_loop(servers: Servers, go: Go) -> None:
    async def test() -> None:
        engine = ScriptedEngine(servers.tokenizer)
        engine.model = type(engine.model)(
            name="x",
            max_model_len=10**6,
            vocab_size=engine.model.vocab_size,
            eos_token_ids=engine.model.eos_token_ids,
            tokenizer="",
        )
        llm = opened(servers, engine)
        text = "The quick brown fox. " * 1000
        (*_, last) = [output async for output in llm.generate(text, LONG)]
        assert last.prompt_token_ids == servers.tokenizer.encode(text)
        await llm.shutdown()

    go(test())
