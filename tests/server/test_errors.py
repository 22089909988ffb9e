from __future__ import annotations

from typing import Any

import pytest
from openai import APIError, AsyncOpenAI, BadRequestError
from server_kit import Go, Servers

from jackfield.server.options import ServerOptions

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "Hi"}]


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        (CHAT, {}, "messages", "required"),
        (CHAT, {"messages": []}, "messages", "empty"),
        (CHAT, {"messages": HI, "max_tokens": "many"}, "max_tokens", "Expected `int | null`"),
        (CHAT, {"messages": HI, "max_tokens": 0}, "max_tokens", "at least 1"),
        (CHAT, {"messages": HI, "max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "differ"),
        (CHAT, {"messages": HI, "temperature": -1}, "temperature", "between 0 and 100"),
        (CHAT, {"messages": HI, "n": 2, "temperature": 0}, "n", "greedy"),
        (CHAT, {"messages": HI, "priority": 2**64}, "priority", "2147483647"),
        (CHAT, {"messages": HI, "priority": -(2**70)}, "priority", "2147483647"),
        (CHAT, {"messages": HI, "top_k": 2**66}, "top_k", "2147483647"),
        (CHAT, {"messages": HI, "chat_template_kwargs": {"messages": 1}}, "chat_template_kwargs.messages", "may not"),
        (CHAT, {"messages": HI, "temprature": 1}, "temprature", "Did you mean 'temperature'"),
        (CHAT, {"messages": HI, "top_logprobs": 2}, "top_logprobs", "logprobs: true"),
        (CHAT, {"messages": HI, "logprobs": True, "top_logprobs": 21}, "logprobs", "between 0 and 20"),
        (CHAT, {"messages": HI, "stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
        (CHAT, {"messages": HI, "stream_options": {"usage": True}}, "stream_options.usage", "Unknown"),
        (CHAT, {"messages": HI, "logit_bias": {"99999": 1}}, "logit_bias", "99999"),
        (CHAT, {"messages": HI, "stop": ["a", ""]}, "stop", "empty"),
        (CHAT, {"messages": HI, "tools": [{"type": "function"}]}, "tools", "not supported"),
        (CHAT, {"messages": HI, "response_format": {"type": "json_object"}}, "response_format", "not supported"),
        (CHAT, {"messages": HI, "reasoning_effort": "high"}, "reasoning_effort", "chat_template_kwargs"),
        (
            CHAT,
            {"messages": HI, "chat_template_kwargs": {"tokenize": True}},
            "chat_template_kwargs.tokenize",
            "may not",
        ),
        (CHAT, {"messages": [{"role": "wizard", "content": "a"}]}, "messages[0].role", "wizard"),
        (
            CHAT,
            {"messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}]},
            "messages[0].tool_call_id",
            "not supp",
        ),
        (CHAT, user(None), "messages[0].content", "must be a string"),
        (CHAT, user(5), "messages[0].content", "Expected"),
        (CHAT, user([{"type": "image_url", "image_url": {"url": "x"}}]), "messages[0].content[0].type", "'image_url'"),
        (CHAT, user("a", mood="bad"), "messages[0].mood", "Unknown"),
        (CHAT, user("word " * 600), "prompt", "holds 512"),
        (COMPLETIONS, {}, "prompt", "required"),
        (COMPLETIONS, {"prompt": ""}, "prompt", "empty"),
        (COMPLETIONS, {"prompt": []}, "prompt", "empty"),
        (COMPLETIONS, {"prompt": ["a", 5]}, "prompt", "mixes"),
        (COMPLETIONS, {"prompt": [99999]}, "prompt", "99999"),
        (COMPLETIONS, {"prompt": [5] * 512}, "prompt", "512 tokens"),
        (COMPLETIONS, {"prompt": "a", "suffix": "b"}, "suffix", "not supported"),
        (COMPLETIONS, {"prompt": "a", "best_of": 3}, "best_of", "equal n (1)"),
        (COMPLETIONS, {"prompt": "a", "echo": True, "logprobs": 1}, "echo", "logprobs"),
        (COMPLETIONS, {"prompt": "a", "n": 2000}, "n", "between 1 and 128"),
        (COMPLETIONS, {"prompt": ["a"] * 20, "n": 100, "temperature": 1}, "prompt", "at most 1024"),
    ],
)
def test_a_bad_field_is_a_400_that_names_it(
    servers: Servers, go: Go, path: str, body: dict[str, Any], param: str, words: str
) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            for stream in (False, True):
                if stream and param == "stream_options":
                    continue
                answer = await server.post(path, {**body, "stream": stream})
                assert answer.status_code == 400, answer.text
                error = answer.json()["error"]
                assert error["type"] == "invalid_request_error"
                assert error["param"] == param
                assert words in error["message"]
            assert server.engine.requests == []

    go(test())


@pytest.mark.parametrize(
    "neutral",
    [
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "functions": None},
        {"response_format": {"type": "text"}, "modalities": ["text"], "reasoning_effort": None},
        {"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x"},
        {
            "temperature": None,
            "stop": None,
            "logprobs": None,
            "n": None,
            "seed": None,
            "max_tokens": None,
            "stream": None,
        },
    ],
)
def test_fields_that_change_nothing_are_accepted(servers: Servers, go: Go, neutral: dict[str, Any]) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            answer = await server.post(CHAT, {"messages": HI, **neutral})
            assert answer.status_code == 200, answer.text

    go(test())


def test_what_is_no_json_is_a_400(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            for content in (b"", b"{", b"[]", b'{"prompt": "\xff"}'):
                answer = await server.http.post(COMPLETIONS, content=content)
                assert answer.status_code == 400, content
                assert answer.json()["error"]["message"]

    go(test())


def test_a_body_that_is_too_long_is_a_413(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside(ServerOptions(max_body_bytes=100)) as server:
            answer = await server.post(COMPLETIONS, {"prompt": "a" * 100})
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_long")

    go(test())


def test_an_unknown_model_is_a_404(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside(ServerOptions(served_model_name="mine")) as server:
            answer = await server.post(COMPLETIONS, {"prompt": "a", "model": "other"})
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "model_not_found"
            assert "'mine'" in answer.json()["error"]["message"]
            assert (await server.post(COMPLETIONS, {"prompt": "a", "model": "mine"})).json()["model"] == "mine"

    go(test())


def test_unknown_paths_and_methods_have_openai_s_shape(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            for answer, status in ((await server.http.get("/v2"), 404), (await server.http.get(CHAT), 405)):
                assert answer.status_code == status
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    go(test())


def test_the_key_is_asked_for_under_v1_only(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside(ServerOptions(api_key="söcret")) as server:
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "söcret".encode()}):
                answer = await server.http.get("/v1/models", headers=header)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            right = {"Authorization": "Bearer söcret".encode()}
            assert (await server.http.get("/v1/models", headers=right)).status_code == 200
            assert (await server.http.get("/health")).status_code == 200

    go(test())


def test_a_step_that_fails_fails_its_request_only(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            answer = await server.post(COMPLETIONS, {"prompt": [3, 3, 3]})
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_error")
            assert "the step failed" in answer.json()["error"]["message"]
            streamed = await server.post(COMPLETIONS, {"prompt": [3, 3, 3], "stream": True})
            assert streamed.status_code == 500, "nothing was sent yet, so that the status can say it"
            assert (await server.post(COMPLETIONS, {"prompt": [3, 3]})).status_code == 200

    go(test())


def test_openai_s_client_raises_what_it_should(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.on_port(seconds=0.01, repeat=5) as server:
            client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
            with pytest.raises(BadRequestError, match="512"):
                await client.completions.create(model="scripted", prompt=[5] * 600)
            stream = await client.completions.create(model="scripted", prompt="a", max_tokens=99, stream=True)
            await anext(stream)
            server.engine.die("gone away")
            with pytest.raises(APIError, match="gone away"):
                _ = [chunk async for chunk in stream]
            await client.close()

    go(test())
