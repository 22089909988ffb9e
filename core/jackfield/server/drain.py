"""Ending in order: the first signal drains, the second ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator

import uvicorn

from jackfield.server.errors import ShuttingDownError
from jackfield.server.serving import Serving

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_SECONDS = 0.05

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT: no new requests, the running ones finish (for `drain_seconds` at most), then the end."""

    def __init__(self, config: uvicorn.Config, serving: Serving) -> None:
        super().__init__(config)
        self._serving = serving
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ours instead of uvicorn's, which stops listening at once and ends the process by the signal it got."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if self._draining is not None:
            os._exit(128 + number)  # the engine process ends itself, having lost its parent
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        self._serving.drain()
        frontend, seconds = self._serving.frontend, self._serving.options.drain_seconds
        if frontend is not None:
            if frontend.num_live:
                logger.warning(
                    "Finishing %d requests, for %g s at most; signal again to end at once", frontend.num_live, seconds
                )
            deadline = asyncio.get_running_loop().time() + seconds
            while frontend.num_live and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(_POLL_SECONDS)
            frontend.fail_all(ShuttingDownError("The server was shut down before this request was answered."))
        self.should_exit = True
