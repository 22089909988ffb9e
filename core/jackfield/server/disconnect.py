"""Noticing that a client hung up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from jackfield.frontend.submission import Submission


@asynccontextmanager
async def bound_to_client(submission: Submission, receive: Receive) -> AsyncIterator[None]:
    """While inside, a client that leaves ends its submission: whoever reads it gets ClientDisconnect.

    On the way out, however that happens, the engine is told to forget what is left. The body must have been read.
    """
    watching = asyncio.ensure_future(_give_up_when_left(submission, receive))
    try:
        yield
    finally:
        watching.cancel()
        submission.abort()


async def _give_up_when_left(submission: Submission, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    submission.fail(ClientDisconnect())
    submission.abort()
