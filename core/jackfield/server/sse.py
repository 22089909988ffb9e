"""Server-sent events: a submission's deltas, as they come, to a client that may be slow or gone."""

from __future__ import annotations

import contextlib
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jackfield.frontend.sequence import Delta
from jackfield.frontend.submission import Submission
from jackfield.server.disconnect import bound_to_client
from jackfield.server.errors import as_api_error

_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
DONE = b"data: [DONE]\n\n"


class Events(Protocol):
    """The bytes of each event."""

    def delta(self, index: int, delta: Delta) -> bytes:
        """Events for what was added to one sequence."""

    def end(self) -> bytes:
        """Events after the last delta."""


class EventStream(Response):
    """Sends events until the answer's end, its failure, or the client's. A failure before the first event has a status.

    A client that reads slowly stops `send`; meanwhile deltas merge in the submission, so that nothing queues up.
    """

    def __init__(self, submission: Submission, events: Events) -> None:
        super().__init__()
        self._submission = submission
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientDisconnect):
            async with bound_to_client(self._submission, receive):
                await self._write(scope, receive, send)

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        submission, event = self._submission, self._events.delta
        try:
            deltas = await submission.deltas()
        except ClientDisconnect:
            raise
        except Exception as error:
            await as_api_error(error).response()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        try:
            while deltas:
                body = event(*deltas[0]) if len(deltas) == 1 else b"".join([event(*delta) for delta in deltas])
                await send({"type": "http.response.body", "body": body, "more_body": True})
                deltas = await submission.deltas()
            last = self._events.end() + DONE
        except ClientDisconnect:
            raise
        except Exception as error:
            last = b"data: " + as_api_error(error).body() + b"\n\n" + DONE
        await send({"type": "http.response.body", "body": last, "more_body": False})
