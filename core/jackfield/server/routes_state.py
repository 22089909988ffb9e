"""What the server says about itself: index, models, health, readiness, version, metrics."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jackfield.engine.messages import EngineStats
from jackfield.frontend.engine_client import EngineDeadError
from jackfield.server.errors import ApiError, ShuttingDownError, as_api_error
from jackfield.server.serving import Serving
from jackfield.version import __version__


class StateRoutes:
    """Small answers that need no engine, or only a reading of it."""

    def __init__(self, serving: Serving, paths: list[str]) -> None:
        self._serving = serving
        self._paths = paths
        self._created = int(time.time())

    async def index(self, _: Request) -> Response:
        """Where to go."""
        return _json({"name": "jackfield", "paths": self._paths})

    async def models(self, _: Request) -> Response:
        """The model with its context's length, then its adapters."""
        frontend = self._serving.accepting()
        model = {
            "id": self._serving.model_name,
            "object": "model",
            "created": self._created,
            "owned_by": "jackfield",
            "max_model_len": frontend.model.max_model_len,
        }
        adapters = [{**model, "id": name, "parent": model["id"]} for name in self._serving.adapters]
        return _json({"object": "list", "data": [model, *adapters]})

    async def health(self, _: Request) -> Response:
        """200 unless the engine is dead; starting and draining are healthy."""
        dead = self._serving.frontend.dead if self._serving.frontend is not None else None
        if dead is not None:
            return as_api_error(dead).response()
        return _json({"status": "ok", "phase": self._serving.phase})

    async def ready(self, _: Request) -> Response:
        """200 while requests may come."""
        try:
            self._serving.accepting()
        except (ApiError, EngineDeadError, ShuttingDownError) as error:
            return as_api_error(error).response()
        return _json({"status": "ready"})

    async def version(self, _: Request) -> Response:
        """Ours."""
        return _json({"version": __version__})

    async def metrics(self, _: Request) -> Response:
        """Prometheus' text form."""
        body = self._serving.metrics.render(await self._stats())
        return Response(body, media_type="text/plain; version=1.0.0; charset=utf-8")

    async def _stats(self) -> EngineStats | None:
        if self._serving.frontend is None:
            return None
        try:
            return await self._serving.frontend.stats()
        except EngineDeadError:
            return None


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
