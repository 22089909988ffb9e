"""ASGI middleware that counts responses by path and status."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jackfield.server.metrics import Metrics


class CountResponses:
    """Paths that are no route of ours are counted together: a client must not make up label values."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.responded(path, message["status"])
            await send(message)

        await self._app(scope, receive, counting)
