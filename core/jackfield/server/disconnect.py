"""Noticing that a client hung up."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from jackfield.frontend.submission import Submission


async def until_disconnect(receive: Receive) -> None:
    """Return when the client is gone. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def finished_in_time(submission: Submission, receive: Receive) -> bool:
    """Wait for the whole answer; False when the client left first. Raises what failed the request."""
    answering = asyncio.ensure_future(submission.finished())
    leaving = asyncio.ensure_future(until_disconnect(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            return False
        answering.result()
        return True
    finally:
        answering.cancel()
        leaving.cancel()
