"""From options to a server that runs until it is told to end."""

from __future__ import annotations

import asyncio
import shlex
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import uvicorn

from jackfield.config.options import EngineOptions
from jackfield.frontend.engine_client import EngineClient
from jackfield.frontend.frontend import Frontend
from jackfield.frontend.tokenizer import Tokenizer, warm_up
from jackfield.server.adapter_check import check_adapters
from jackfield.server.app import create_app
from jackfield.server.drain import DrainingServer
from jackfield.server.listen import listen
from jackfield.server.options import ServerOptions
from jackfield.server.serving import Serving

_LAST_BYTES_SECONDS = 5  # after the drain: for clients that still read what was written
Starter = Callable[[], Coroutine[Any, Any, EngineClient]]


def serve(options: EngineOptions, server: ServerOptions) -> None:
    """Serve until SIGTERM or SIGINT. Raises AddressError before the engine starts, or what kept it from starting."""
    listener = listen(server.host, server.port)

    async def start() -> EngineClient:
        from jackfield.engine.client import start_engine  # here, since it takes ZeroMQ

        return await start_engine(options)

    asyncio.run(run_server(start, listener, server, seed=options.seed))


async def run_server(start: Starter, listener: socket.socket, options: ServerOptions, *, seed: int = 0) -> None:
    """Answer /health and /ready while `start` starts the engine, then everything."""
    serving = Serving(options)
    config = uvicorn.Config(
        create_app(serving),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_LAST_BYTES_SECONDS,
    )
    server = DrainingServer(config, serving)

    async def open_frontend() -> None:
        try:
            client, _ = await asyncio.gather(start(), asyncio.to_thread(warm_up))
            tokenizer = await asyncio.to_thread(Tokenizer.load, client.model.tokenizer)
            if tokenizer.has_chat_template:
                await asyncio.to_thread(lambda: tokenizer.hf)  # the first conversation need not wait for it
            frontend = Frontend(client, tokenizer, seed=seed, max_waiting=options.max_waiting, timings=serving.metrics)
            try:
                await check_adapters(frontend, serving.adapters, options.served_model_name or client.model.name)
            except BaseException:
                await frontend.close()
                raise
            serving.opened(frontend)
            print(_greeting(client, serving, listener), flush=True)
        except BaseException:
            server.should_exit = True
            raise

    opening = asyncio.create_task(open_frontend())
    try:
        await server.serve(sockets=[listener])
    finally:
        opening.cancel()
        (failure,) = await asyncio.gather(opening, return_exceptions=True)
        if serving.frontend is not None:
            await serving.frontend.close()
    if isinstance(failure, Exception):  # a cancelled start is none
        raise failure


def _greeting(client: EngineClient, serving: Serving, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{host}:{port}"
    return f"{client.startup_text}\n{url}\n{_curl(url, serving)}"


def _curl(url: str, serving: Serving) -> str:
    assert serving.frontend is not None
    if serving.frontend.tokenizer.has_chat_template:
        path = "chat/completions"
        body = {"model": serving.model_name, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 32}
    else:
        path, body = "completions", {"model": serving.model_name, "prompt": "Hello", "max_tokens": 32}
    words = ["curl", f"{url}/v1/{path}", "-H", "Content-Type: application/json"]
    key = ' -H "Authorization: Bearer $KEY"' if serving.options.api_key is not None else ""  # ours is not printed
    return shlex.join(words) + key + " -d " + shlex.quote(msgspec.json.encode(body).decode())
