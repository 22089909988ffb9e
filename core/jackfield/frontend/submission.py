"""The reader's end of what was asked at once: one request, or one for each of several prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jackfield.frontend.processor import RequestState
from jackfield.frontend.sequence import Delta


class RequestFailedError(RuntimeError):
    """The engine failed this request. The text says why."""


class Submission:
    """Deltas of all sequences, numbered through, merged until they are read: a slow reader makes nothing queue up."""

    def __init__(self, on_abort: Callable[[Submission], None], *, stream: bool) -> None:
        self.states: Sequence[RequestState] = ()
        self._on_abort = on_abort
        self._stream = stream
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the engine has nothing more to bring."""
        return self._failure is not None or not any(state.num_unfinished for state in self.states)

    def wake(self) -> None:
        """Something came."""
        if self._stream or self.is_finished:
            self._notify()

    def fail(self, error: Exception) -> None:
        """Nothing more will come; the reader gets `error`."""
        self._failure = self._failure or error
        self._notify()

    def abort(self) -> None:
        """Nobody reads any more: free what the engine holds. Harmless after the end."""
        self._on_abort(self)

    def cancel(self) -> None:
        """Abort on behalf of somebody else: the reader finds its sequences ended, with finish_reason "abort"."""
        self.abort()
        for state in self.states:
            for sequence in state.sequences:
                sequence.finish_reason = sequence.finish_reason or "abort"
            state.num_unfinished = 0
        self._notify()

    async def deltas(self) -> list[tuple[int, Delta]]:
        """What is new, by the index of its sequence; waits for it; empty at the end. Raises what failed the request."""
        while True:
            self._raise_failure()
            found = []
            for state in self.states:
                for sequence in state.sequences:
                    delta = sequence.take()
                    if delta is not None:
                        found.append((sequence.index, delta))
            if found or self.is_finished:
                return found
            await self._something()

    async def finished(self) -> None:
        """Wait for the end. Raises what failed the request."""
        while not self.is_finished:
            await self._something()
        self._raise_failure()

    async def _something(self) -> None:
        """Wait for the next notice. One reader at a time, which has looked at everything just before."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        for state in self.states:
            if state.error is not None:
                raise RequestFailedError(f"The engine failed request {state.request.id!r}: {state.error}")
