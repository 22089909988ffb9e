"""A server over a scripted engine: within the process, or on a loopback port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import httpx
import uvicorn
from scripted_engine import ScriptedEngine

from jackfield.frontend.frontend import Frontend
from jackfield.frontend.tokenizer import Tokenizer
from jackfield.server.app import create_app
from jackfield.server.listen import listen
from jackfield.server.options import ServerOptions
from jackfield.server.serving import Serving

Go = Callable[[Coroutine[Any, Any, None]], None]


class Running:
    """A server, its engine, and a client to it."""

    def __init__(self, serving: Serving, engine: ScriptedEngine, http: httpx.AsyncClient, url: str) -> None:
        self.serving, self.engine, self.http, self.url = serving, engine, http, url

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that must come; the test's own time limit ends it otherwise."""
        while not holds():
            await asyncio.sleep(0.005)


class Servers:
    """Makes servers inside a test's event loop."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @asynccontextmanager
    async def inside(self, options: ServerOptions | None = None, **script: Any) -> AsyncIterator[Running]:
        """No socket: requests go straight into the application."""
        serving, engine = self._open(options, script)
        transport = httpx.ASGITransport(create_app(serving), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield Running(serving, engine, http, "")
        await self._close(serving)

    @asynccontextmanager
    async def on_port(self, options: ServerOptions | None = None, **script: Any) -> AsyncIterator[Running]:
        """A real server on a free loopback port."""
        serving, engine = self._open(options, script)
        listener = listen("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(create_app(serving), log_config=None, lifespan="off", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.capture_signals = nullcontext  # type: ignore[method-assign,assignment]  # the test owns the process's signals
        running = asyncio.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:
            yield Running(serving, engine, http, url)
        server.should_exit = True
        await running
        await self._close(serving)

    def _open(self, options: ServerOptions | None, script: dict[str, Any]) -> tuple[Serving, ScriptedEngine]:
        serving = Serving(options or ServerOptions())
        engine = ScriptedEngine(self.tokenizer, **script)
        frontend = Frontend(engine, self.tokenizer, max_waiting=serving.options.max_waiting, timings=serving.metrics)
        serving.opened(frontend)
        return serving, engine

    async def _close(self, serving: Serving) -> None:
        assert serving.frontend is not None
        assert serving.frontend.num_live == 0, "every request was read to its end or given up"
        await serving.frontend.close()
