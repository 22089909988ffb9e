from __future__ import annotations

from openai import AsyncOpenAI
from scripted_engine import ANSWER
from server_kit import Go, Servers

PATH = "/v1/completions"


def test_prompts_of_every_form_and_their_order(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            forms = [("Hi", 1), (["Hi", "Ho"], 2), ([5, 6], 1), ([[5, 6], [7]], 2)]
            for prompt, count in forms:
                body = (await server.post(PATH, {"prompt": prompt, "max_tokens": 99})).json()
                assert body["object"] == "text_completion"
                assert [(c["index"], c["text"], c["finish_reason"]) for c in body["choices"]] == [
                    (index, ANSWER, "stop") for index in range(count)
                ]
            assert [request.prompt_token_ids for request in server.engine.requests[-3:]] == [[5, 6], [5, 6], [7]]
            assert body["usage"]["prompt_tokens"] == 3

    go(test())


def test_an_answer_has_16_tokens_unless_told_otherwise(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside(repeat=9) as server:
            body = (await server.post(PATH, {"prompt": "Hi"})).json()
            assert body["usage"]["completion_tokens"] == 16
            assert body["choices"][0]["finish_reason"] == "length"

    go(test())


def test_several_prompts_with_several_answers_stream_side_by_side(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.on_port() as server:
            client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
            stream = await client.completions.create(
                model="scripted",
                prompt=["A", "B"],
                n=2,
                max_tokens=99,
                echo=True,
                stream=True,
                stream_options={"include_usage": True},
            )
            texts, usage = dict.fromkeys(range(4), ""), None
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    texts[choice.index] += choice.text
            assert texts == {0: "A" + ANSWER, 1: "A" + ANSWER, 2: "B" + ANSWER, 3: "B" + ANSWER}
            assert usage is not None
            assert usage.completion_tokens == 4 * (len(servers.tokenizer.encode(ANSWER)) + 1)
            await client.close()

    go(test())


def test_echo_of_token_ids_is_their_text(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            ids = servers.tokenizer.encode("Köln 🙂 ")
            body = (await server.post(PATH, {"prompt": ids, "echo": True, "max_tokens": 99})).json()
            assert body["choices"][0]["text"] == "Köln 🙂 " + ANSWER

    go(test())


def test_logprobs_streamed_and_whole_say_the_same(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.on_port() as server:
            client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
            whole = await client.completions.create(model="scripted", prompt="A", max_tokens=6, logprobs=2)
            logprobs = whole.choices[0].logprobs
            assert logprobs is not None
            texts = [servers.tokenizer.token_text(token) for token in servers.tokenizer.encode(ANSWER)[:6]]
            assert logprobs.tokens == texts
            assert logprobs.text_offset == [sum(map(len, texts[:i])) for i in range(6)]
            assert logprobs.token_logprobs == [-0.25] * 6
            assert logprobs.top_logprobs is not None
            assert all(
                top[text] == -0.25 and len(top) == 2 for top, text in zip(logprobs.top_logprobs, texts, strict=True)
            )
            stream = await client.completions.create(
                model="scripted", prompt="A", max_tokens=6, logprobs=2, stream=True
            )
            parts = [part async for chunk in stream if (part := chunk.choices[0].logprobs)]
            for field in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
                assert [entry for part in parts for entry in getattr(part, field)] == getattr(logprobs, field)
            await client.close()

    go(test())


def test_logprobs_0_has_the_sampled_token_only(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            body = (await server.post(PATH, {"prompt": "A", "logprobs": 0})).json()
            logprobs = body["choices"][0]["logprobs"]
            assert logprobs["top_logprobs"] is None
            assert len(logprobs["tokens"]) == body["usage"]["completion_tokens"]

    go(test())
