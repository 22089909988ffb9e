from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest
from scripted_engine import ScriptedEngine
from server_kit import Go, Servers

from jackfield.frontend.engine_client import EngineClient
from jackfield.frontend.frontend import Ask
from jackfield.frontend.prompt import Prompt
from jackfield.sampling_params import SamplingParams
from jackfield.server.listen import AddressError, listen
from jackfield.server.options import ServerOptions
from jackfield.server.run import run_server

PATH = "/v1/completions"
LONG = {"prompt": "a", "max_tokens": 400}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_sequences(servers: Servers, go: Go, stream: bool) -> None:
    async def test() -> None:
        async with servers.on_port(seconds=0.005, repeat=40) as server:
            body = {**LONG, "stream": stream, "n": 3, "temperature": 1}
            asking = asyncio.create_task(_read_a_little(server.url, body))
            await server.until(lambda: server.engine.num_running == 3)
            await asyncio.sleep(0.05)
            asking.cancel()
            await server.until(lambda: server.engine.num_running == 0)
            assert sorted(server.engine.aborted) == sorted(request.id for request in server.engine.requests)
            assert server.serving.frontend is not None
            await server.until(lambda: server.serving.frontend.num_live == 0)  # type: ignore[union-attr]

    go(test())


async def _read_a_little(url: str, body: dict[str, object]) -> None:
    async with httpx.AsyncClient() as client, client.stream("POST", url + PATH, json=body) as answer:
        async for _ in answer.aiter_bytes():
            pass


def test_a_slow_client_gets_merged_chunks_and_all_of_the_text(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside(repeat=10) as server:
            whole = (await server.post(PATH, LONG)).json()["choices"][0]["text"]
            frontend = server.serving.frontend
            assert frontend is not None
            ask = Ask(id="slow", prompts=[Prompt(text="a")], sampling=SamplingParams(max_tokens=400))
            submission = await frontend.submit(ask)
            await server.until(lambda: submission.is_finished)
            ((index, delta),) = await submission.deltas()
            assert (index, delta.text, delta.finish_reason) == (0, whole, "stop")
            assert await submission.deltas() == []
            submission.abort()

    go(test())


def test_too_many_waiting_requests_get_429_and_when_to_come_back(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside(ServerOptions(max_waiting=3)) as server:
            server.engine.hold()
            waiting = [asyncio.create_task(server.post(PATH, {"prompt": "a"})) for _ in range(3)]
            await server.until(lambda: server.engine.num_running == 3)
            answer = await server.post(PATH, {"prompt": "a"})
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["type"] == "rate_limit_error"
            server.engine.release()
            assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200, 200]
            assert (await server.post(PATH, {"prompt": "a"})).status_code == 200

    go(test())


def test_a_dead_engine_fails_every_waiting_request_and_says_so(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            server.engine.hold()
            bodies = [{"prompt": "a"}, {"prompt": "a", "stream": True}, {"prompt": ["a", "b"]}]
            waiting = [asyncio.create_task(server.post(PATH, body)) for body in bodies]
            await server.until(lambda: server.engine.num_running == 4)
            assert (await server.http.get("/health")).json() == {"status": "ok", "phase": "ready"}
            server.engine.die("killed by signal 9")
            for answer in await asyncio.gather(*waiting):
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_dead")
            for path in ("/health", "/ready", "/v1/models"):
                answer = await server.http.get(path)
                assert answer.status_code == 503
                assert "killed by signal 9" in answer.json()["error"]["message"]
            assert (await server.post(PATH, {"prompt": "a"})).status_code == 503
            assert "jackfield_engine_up 0.0" in (await server.http.get("/metrics")).text

    go(test())


def test_a_stream_under_way_ends_with_an_error_event(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside(repeat=40, seconds=0.01) as server:
            asking = asyncio.create_task(server.post(PATH, {**LONG, "stream": True}))
            await server.until(lambda: server.engine.num_running == 1)
            await asyncio.sleep(0.1)  # some of its 400 steps of 0.01 s, never all
            server.engine.die("no more")
            *_, error, done, _ = (await asking).text.split("\n\n")
            assert '"engine_dead"' in error
            assert "no more" in error
            assert done == "data: [DONE]"

    go(test())


def test_what_the_server_says_about_itself(servers: Servers, go: Go) -> None:
    async def test() -> None:
        async with servers.inside() as server:
            (model,) = (await server.http.get("/v1/models")).json()["data"]
            assert (model["id"], model["object"], model["max_model_len"]) == ("scripted", "model", 512)
            assert (await server.http.get("/ready")).status_code == 200
            assert (await server.http.get("/version")).json()["version"]
            assert PATH in (await server.http.get("/")).json()["paths"]
            num_tokens = (await server.post(PATH, {"prompt": "a"})).json()["usage"]["completion_tokens"]
            await server.http.get("/nowhere")
            text = (await server.http.get("/metrics")).text
            for line in (
                "jackfield_engine_up 1.0",
                "jackfield_running_sequences 0.0",
                "jackfield_free_blocks 90.0",
                "jackfield_prompt_tokens_total 7.0",
                "jackfield_spec_decode_num_draft_tokens_total 6.0",
                "jackfield_spec_decode_num_accepted_tokens_total 4.0",
                "jackfield_time_to_first_token_seconds_count 1.0",
                f"jackfield_inter_token_seconds_count {num_tokens - 1}.0",
                'jackfield_responses_total{path="/v1/completions",status="200"} 1.0',
                'jackfield_responses_total{path="other",status="404"} 1.0',
            ):
                assert line in text.splitlines()

    go(test())


def test_a_port_in_use_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=rf"Port {port} .* in use.*--port"):
            listen("127.0.0.1", port)


def test_it_starts_greets_drains_and_ends(servers: Servers, go: Go, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        engine = ScriptedEngine(servers.tokenizer, seconds=0.01, repeat=5)
        may_start = asyncio.Event()

        async def start() -> EngineClient:
            await may_start.wait()
            return engine

        listener = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(run_server(start, listener, ServerOptions()))
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/health")).json()["phase"] == "starting"
            for answer in (await http.get("/ready"), await http.post(PATH, json=LONG)):
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "starting")
            may_start.set()
            while (await http.get("/ready")).status_code != 200:
                await asyncio.sleep(0.01)
            stream = http.stream("POST", PATH, json={**LONG, "stream": True})
            async with stream as running:
                os.kill(os.getpid(), signal.SIGTERM)
                while (await http.get("/ready")).status_code == 200:
                    await asyncio.sleep(0.01)
                refused = await http.post(PATH, json=LONG)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
                text = "".join([part async for part in running.aiter_text()])
            assert text.endswith("data: [DONE]\n\n")
            assert '"finish_reason":"stop"' in text
        await serving
        assert engine.is_closed
        greeting = capsys.readouterr().out
        assert engine.startup_text in greeting
        assert f"curl {url}/v1/chat/completions" in greeting

    go(test())


def test_requests_that_outlast_the_drain_get_an_error(servers: Servers, go: Go) -> None:
    async def test() -> None:
        engine = ScriptedEngine(servers.tokenizer)
        engine.hold()

        async def start() -> EngineClient:
            return engine

        listener = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(run_server(start, listener, ServerOptions(drain_seconds=0.1)))
        async with httpx.AsyncClient(base_url=url) as http:
            while (await http.get("/ready")).status_code != 200:
                await asyncio.sleep(0.01)
            asking = asyncio.create_task(http.post(PATH, json=LONG))
            while not engine.num_running:
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            answer = await asking
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        await serving

    go(test())


def test_an_engine_that_does_not_start_ends_the_server_with_its_reason(go: Go) -> None:
    async def test() -> None:
        async def start() -> EngineClient:
            raise RuntimeError("no weights")

        with pytest.raises(RuntimeError, match="no weights"):
            await run_server(start, listen("127.0.0.1", 0), ServerOptions())

    go(test())


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    script = f"""
        import asyncio, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from jackfield.server.listen import listen
        from jackfield.server.options import ServerOptions
        from jackfield.server.drain import DrainingServer
        from jackfield.server.serving import Serving
        import uvicorn

        class Busy:
            num_live, dead = 1, None

        async def app(scope, receive, send): ...

        serving = Serving(ServerOptions(drain_seconds=600))
        serving.opened(Busy())
        server = DrainingServer(uvicorn.Config(app, log_config=None, lifespan="off"), serving)

        async def main():
            task = asyncio.create_task(server.serve(sockets=[listen("127.0.0.1", 0)]))
            while not server.started:
                await asyncio.sleep(0.01)
            print("up", flush=True)
            while serving.phase == "ready":
                await asyncio.sleep(0.01)
            print("draining", flush=True)
            await task

        asyncio.run(main())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "draining\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
