from __future__ import annotations

import json

from openai import AsyncOpenAI
from scripted_engine import ANSWER
from server_kit import Go, Servers

ASK = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/v1/chat/completions"


def test_a_whole_answer(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            body = (await server.post(PATH, ASK)).json()
            assert body["object"] == "chat.completion"
            (choice,) = body["choices"]
            assert choice["message"] == {"content": ANSWER, "role": "assistant", "refusal": None}
            assert (choice["finish_reason"], choice["stop_reason"], choice["logprobs"]) == ("stop", None, None)
            (request,) = server.engine.requests
            num_tokens = len(servers.tokenizer.encode(ANSWER)) + 1
            assert body["usage"] == {
                "prompt_tokens": len(request.prompt_token_ids),
                "completion_tokens": num_tokens,
                "total_tokens": len(request.prompt_token_ids) + num_tokens,
                "prompt_tokens_details": {"cached_tokens": 2},
            }
            prompt = servers.tokenizer.decode(request.prompt_token_ids, skip_special_tokens=False)
            assert prompt == servers.tokenizer.render_chat(
                [{"role": "user", "content": "Hi"}], add_generation_prompt=True
            )

    go(test())


def test_openai_s_client_streams(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.on_port() as server:
            client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
            stream = await client.chat.completions.create(
                model="scripted",
                messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
                stream=True,
                stream_options={"include_usage": True},
                user="me",
                store=False,
                extra_body={"top_k": 5, "ignore_eos": False, "chat_template_kwargs": {"enable_thinking": False}},
            )
            chunks = [chunk async for chunk in stream]
            *deltas, usage = chunks
            text = [chunk.choices[0].delta.content for chunk in deltas]
            assert "".join(piece or "" for piece in text) == ANSWER
            assert not any("\ufffd" in (piece or "") for piece in text)
            assert deltas[0].choices[0].delta.role == "assistant"
            assert [chunk.choices[0].finish_reason for chunk in deltas] == [None] * (len(deltas) - 1) + ["stop"]
            assert all(chunk.usage is None for chunk in deltas)
            assert usage.choices == []
            assert usage.usage is not None
            assert usage.usage.completion_tokens == len(servers.tokenizer.encode(ANSWER)) + 1
            assert len({chunk.id for chunk in chunks}) == 1
            assert server.engine.requests[0].sampling.top_k == 5
            await client.close()

    go(test())


def test_a_stream_without_usage_has_no_usage(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            answer = await server.post(PATH, {**ASK, "stream": True})
            assert answer.headers["content-type"].startswith("text/event-stream")
            *events, done, rest = answer.text.split("\n\n")
            assert (done, rest) == ("data: [DONE]", "")
            assert all("usage" not in json.loads(event.removeprefix("data: ")) for event in events)

    go(test())


def test_several_answers_each_with_an_index(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.on_port() as server:
            client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
            messages = [{"role": "user", "content": "Hi"}]
            whole = await client.chat.completions.create(model="scripted", messages=messages, n=3)  # type: ignore[arg-type]
            assert [(choice.index, choice.message.content) for choice in whole.choices] == [
                (i, ANSWER) for i in range(3)
            ]
            stream = await client.chat.completions.create(model="scripted", messages=messages, n=2, stream=True)  # type: ignore[call-overload]
            texts = {0: "", 1: ""}
            async for chunk in stream:
                texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
            assert texts == {0: ANSWER, 1: ANSWER}
            assert len({request.sampling.seed for request in server.engine.requests}) == 5
            await client.close()

    go(test())


def test_logprobs_as_openai_s_client_reads_them(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.on_port() as server:
            client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
            more = {"model": "scripted", "messages": ASK["messages"], "logprobs": True, "top_logprobs": 3}
            whole = await client.chat.completions.create(**more)
            entries = whole.choices[0].logprobs.content
            ids = servers.tokenizer.encode(ANSWER)
            assert [entry.token for entry in entries[:-1]] == [servers.tokenizer.token_text(token) for token in ids]
            assert bytes(byte for entry in entries[:-1] for byte in entry.bytes) == ANSWER.encode()
            assert all(len(entry.top_logprobs) == 3 and entry.logprob == -0.25 for entry in entries)
            stream = await client.chat.completions.create(**more, stream=True)
            streamed = [chunk.choices[0].logprobs async for chunk in stream]
            assert [entry for part in streamed if part for entry in part.content] == entries
            await client.close()

    go(test())


def test_stop_strings_and_limits(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            choice = (await server.post(PATH, {**ASK, "stop": ["rld. T", "zzz"]})).json()["choices"][0]
            assert (choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]) == (
                "Hello, 🙂 wö",
                "stop",
                "rld. T",
            )
            assert server.engine.aborted == [server.engine.requests[0].id]
            shown = {**ASK, "stop": "rld. T", "include_stop_str_in_output": True}
            assert (await server.post(PATH, shown)).json()["choices"][0]["message"]["content"] == "Hello, 🙂 wörld. T"
            for field in ("max_tokens", "max_completion_tokens"):
                body = (await server.post(PATH, {**ASK, field: 2})).json()
                assert body["choices"][0]["finish_reason"] == "length"
                assert body["usage"]["completion_tokens"] == 2
            text = (await server.post(PATH, {**ASK, "stop": "rld. T", "stream": True})).text
            events = [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n")[:-2]]
            assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "Hello, 🙂 wö"
            assert events[-1]["choices"][0]["stop_reason"] == "rld. T"

    go(test())


def test_sampling_fields_reach_the_engine(servers: Servers, go: Go) -> None:
    async def test() -> None:
        sampling = {
            "temperature": 0.3, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "presence_penalty": 0.5,
            "frequency_penalty": 0.25, "repetition_penalty": 1.1, "seed": 17, "min_tokens": 2, "ignore_eos": True,
            "stop_token_ids": [9], "skip_special_tokens": False,
        }  # fmt: skip
        async with servers.inside() as server:
            body = {**ASK, **sampling, "logit_bias": {"5": -1.5}, "priority": 3, "cache_salt": "s", "max_tokens": 4}
            assert (await server.post(PATH, body)).status_code == 200
            (request,) = server.engine.requests
            assert {name: getattr(request.sampling, name) for name in sampling} == sampling
            assert request.sampling.logit_bias == {5: -1.5}
            assert (request.priority, request.cache_salt, request.stop_token_ids) == (3, "s", {9})

    go(test())


def test_an_answer_may_be_sent_back_as_it_came(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.on_port() as server:
            client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
            messages: list[object] = [{"role": "user", "content": "Hi"}]
            first = await client.chat.completions.create(model="scripted", messages=messages)  # type: ignore[arg-type]
            messages += [first.choices[0].message.model_dump(), {"role": "user", "content": "And?"}]
            again = await client.chat.completions.create(model="scripted", messages=messages)  # type: ignore[arg-type]
            assert again.choices[0].message.content == ANSWER
            await client.close()

    go(test())
